"""The ledger: what may serve, what serves, what served, and every fact that was decided on; append-only."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from mlops_lab.events import Message
from mlops_lab.registry.ledger import Fact, Standing
from mlops_lab.registry.version import Assignment, ModelVersion, Role, State


class Ledger(Protocol):
    """The ledger of one model. Kept by `on_sql.py`; SQLite in a home, Postgres by its address.

    Every method that writes does so in one transaction with an audit entry and the messages on topic CONTROL that tell
    others. `at` is event time, aware, UTC; the wall time is added. All of them raise RegistryUnreachable where the
    database does not answer.
    """

    @property
    def model(self) -> str:
        """Name of the registered model."""
        ...

    def add_version(self, version: ModelVersion, actor: str) -> None:
        """Enter a registered candidate; again changes nothing. Emits `ModelRegistered`.

        Raises:
            VersionTaken: That number is registered with another run, scorer or data.
        """
        ...

    def versions(self) -> Sequence[ModelVersion]:
        """All versions, by number."""
        ...

    def version(self, number: int) -> ModelVersion:
        """One version. Raises UnknownVersion."""
        ...

    def proposers(self, number: int) -> frozenset[str]:
        """Who ordered and who registered a version, as `identity_key`: they may not approve it. Raises UnknownVersion."""
        ...

    def state(self, number: int) -> State:
        """Where a version is in its life. Raises UnknownVersion."""
        ...

    def assign(
        self,
        role: Role,
        version: int | None,
        *,
        replacing: int | None,
        kind: str,
        by: str,
        why: str,
        at: datetime,
        weight: float = 1.0,
    ) -> Assignment:
        """Give a role to a version (None: take it away), by compare-and-set.

        Emits `ModelPromoted`, `ModelRolledBack`, `OverrideForced`, or `RoleAssigned` for a shadow or canary. A version that becomes
        champion is canary and shadow no longer, by further lines of the same transaction.

        Args:
            role: Champion, shadow or canary.
            version: Number.
            replacing: Id of the assignment of this role that the caller saw, None for none.
            kind: `promotion`, `rollback` or `override`.
            by: Identity.
            why: A sentence.
            at: Event time.
            weight: Share of requests, 0 to 1.

        Raises:
            LostTheRace: Another assignment of the role came first; it names the winner.
            PromotionRefused: The version is barred, or a champion is promoted that nobody else approved, or the champion is to be
                canary or shadow.
            UnknownVersion: No such version.
        """
        ...

    def rollback(self, at: datetime, by: str, why: str, *, leaving: int | None = None, to: int | None = None) -> Assignment:
        """Go back to the last champion that is not barred, and bar the version left. Emits `ModelRolledBack`, `VersionBarred`.

        Trials of both versions end by further lines of the same transaction.

        Args:
            at: Event time.
            by: Identity.
            why: A sentence.
            leaving: The version to leave, if the caller means a certain one: a second call for it does not go back twice.
            to: The version to go back to, if the caller means a certain one.

        Raises:
            LostTheRace: The champion is not `leaving` any more.
            NoChampion: There is none to leave.
            PromotionRefused: There is none to go back to, or not the one chosen.
        """
        ...

    def take_in_pin(
        self,
        pin: str,
        version: int,
        *,
        barring: Collection[int],
        superseded: Collection[str],
        at: datetime,
        by: str,
        why: str,
        body: Mapping[str, Any],
    ) -> Assignment | None:
        """Record what a local pin did while nobody could reach the ledger: an override to its version, and bars. Emits `OverrideForced`.

        Args:
            pin: Its id; the same again has no effect.
            version: What it put in place.
            barring: What it left.
            superseded: Ids of older pins, which have no effect any more.
            at: Event time.
            by: Who set it.
            why: Their words.
            body: The pin, kept as a fact of kind `pin`.

        Returns:
            The assignment; None where that pin was taken in before.

        Raises:
            UnknownVersion: No such version.
        """
        ...

    def standing(self) -> Standing:
        """The newest line of each role with what a replica needs to follow it, read at one moment. Cheap while nothing changes."""
        ...

    def champion(self) -> Assignment:
        """The present champion. Raises NoChampion."""
        ...

    def current(self, role: Role) -> Assignment | None:
        """The newest assignment of a role: its id is what `assign` wants as `replacing`."""
        ...

    def assignments(self) -> Sequence[Assignment]:
        """All assignments, in order."""
        ...

    def serving_at(self, at: datetime) -> Assignment | None:
        """Which champion served at a moment of event time."""
        ...

    def record_judgement(self, version: int, judgement: Mapping[str, Any], at: datetime, by: str) -> Fact:
        """Keep what the judge found (`outcome`, `because`, `checks`). Emits `VersionJudged`. Raises UnknownVersion."""
        ...

    def judgement(self, version: int) -> dict[str, Any] | None:
        """The latest judgement, None where there is none."""
        ...

    def approve(self, version: int, *, why: str, at: datetime, by: str, body: Mapping[str, Any]) -> Fact:
        """Keep an approval; called by `governance`, which checks the credential. Emits `VersionApproved`.

        Raises:
            ApprovalRefused: `by` ordered or registered it.
            UnknownVersion: No such version.
        """
        ...

    def refuse(self, version: int, why: str, at: datetime, by: str) -> Fact:
        """Keep a refusal. Emits `VersionRefused`. Raises UnknownVersion."""
        ...

    def bar(self, version: int, why: str, at: datetime, by: str) -> Fact:
        """Never again by itself, only by an override; a trial of it ends in the same transaction. Emits `VersionBarred`.

        Raises:
            UnknownVersion: No such version.
        """
        ...

    def record(
        self,
        kind: str,
        subject: str,
        body: Mapping[str, Any],
        *,
        at: datetime,
        by: str,
        why: str,
        emit: Iterable[Message] = (),
        behind: int | None = None,
    ) -> Fact:
        """Keep a fact, and send messages if, and only if, it is new.

        The same again has the effect of once: for the kinds in `ONCE_ONLY` the first fact about a subject stands
        whatever comes later, for others a fact equal to the latest (`at`, `by`, `why` and body) is that latest one.

        Args:
            kind: Of the fact.
            subject: What it is about.
            body: What it says.
            at: Event time.
            by: Who says it.
            why: In words.
            emit: Messages.
            behind: How many facts of the kind about the subject it was made from; None where it does not matter.

        Raises:
            LostTheRace: There are more of them by now.
            ValueError: The kind is one of `OF_VERSIONS`, which have methods of their own.
        """
        ...

    def facts(self, kind: str | None = None, subject: str | None = None) -> Sequence[Fact]:
        """All facts, or those of a kind or about a subject, in order."""
        ...

    def record_decision(self, window_id: str, decision: Mapping[str, Any], at: datetime, by: str, emit: Iterable[Message] = ()) -> Fact:
        """Keep the one decision about a window; its `because` is the reason in the audit."""
        ...

    def decisions(self) -> Sequence[dict[str, Any]]:
        """The bodies of all decisions, in order."""
        ...

    def record_snapshot(self, snapshot: Mapping[str, Any], at: datetime, by: str, emit: Iterable[Message] = ()) -> Fact:
        """Keep an accepted snapshot, by its `id`."""
        ...

    def snapshots(self) -> Sequence[dict[str, Any]]:
        """The bodies of all snapshots, in order."""
        ...

    def unaccounted(self) -> Sequence[str]:
        """Rows without, against, or missing from the audit, a sentence each; empty when all are accounted for."""
        ...
