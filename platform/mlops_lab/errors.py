"""Every error a reader can act on. Each says what happened and what to do next.

LabError
├── DataError          SnapshotRefused, BatchUnreadable, BatchConflict, SchemaRefused, ProgressMoved, SourceMissing, NotEnoughData,
│                      FeaturesWrong, EventRefused, SchemaBroken, MessageUnsendable
├── ModelError         ScorerRefused, TrainingFailed, NoChampion, UnknownVersion, VersionTaken, PromotionRefused, ApprovalRefused,
│                      LostTheRace, PinRefused, NothingToPin
├── EvidenceError      AuditBroken, EvidenceMissing, LogDamaged
├── ServiceError       BusUnreachable (BusReplaced, BusTooSlow, BusRefused, TopicMissing, TopicDiffers), MessageUnreadable,
│                      RegistryUnreachable, OrchestratorUnreachable, StoreUnreachable, FeatureStoreUnreachable, FeaturesRefused,
│                      LogUnwritable, PortInUse, ServiceNotReady
└── UsageError         SettingsWrong, HomeInUse, UnknownName, OrchestratorRefused
"""

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Self


class LabError(Exception):
    """Something the reader can act on. The command line prints it without a traceback and leaves with `exit_code`."""

    exit_code = 10

    def __init__(self, what: str, next_step: str) -> None:
        super().__init__(what, next_step)  # both positional: workers send exceptions by pickle

    @property
    def what(self) -> str:
        return str(self.args[0])

    @property
    def next_step(self) -> str:
        return str(self.args[1])

    def __str__(self) -> str:
        return "{}\nNext: {}".format(*self.args)


class DataError(LabError):
    """The data is not what it has to be."""

    exit_code = 20


class SnapshotRefused(DataError):
    """A gate refused a batch; it is in quarantine and no row of it is in a table."""

    @classmethod
    def by(cls, gate: str, batch: str, failed: int, of: int, first: str) -> Self:
        return cls(
            f"Gate '{gate}' refused batch {batch}: {failed} of {of} expectations failed, first '{first}'.",
            f"read the verdict with `lab gates explain {batch}`, repair the source, then `lab ingest` again.",
        )


class BatchUnreadable(DataError):
    """A batch could not be read as the tables it should hold."""


class BatchConflict(DataError):
    """A batch of this name was accepted with other content."""

    @classmethod
    def of(cls, batch: str, accepted: str, arrived: str) -> Self:
        return cls(
            f"Batch '{batch}' was accepted with content {accepted[:12]}; what arrived now is {arrived[:12]}.",
            "send a correction as a batch of its own name, or leave the accepted one as it is.",
        )


class SchemaRefused(DataError):
    """Rows do not fit the table they are for; nothing was written."""


class ProgressMoved(DataError):
    """Another process appends under the same name; nothing was written by this call."""

    @classmethod
    def of(cls, table: str, app_id: str, expected: int, found: int) -> Self:
        return cls(
            f"'{app_id}' was to append to table '{table}' behind {expected}, but {found} is written already.",
            "let one process at a time do this, and start again from what is written now.",
        )


class SourceMissing(DataError):
    """The source data is not on this machine."""


class NotEnoughData(DataError):
    """Too few accepted or labelled rows for what was asked."""


class FeaturesWrong(DataError):
    """Rows do not have the features that the model reads."""

    @classmethod
    def count(cls, found: int, wanted: int) -> Self:
        return cls(f"A row has {found} features, the model reads {wanted}.", "give the features of the model's own package, in its order.")

    @classmethod
    def not_a_number(cls, feature: str, found: object) -> Self:
        return cls(f"Feature '{feature}' is a number, and {found!r} is not one.", "give a number, or None where nothing is known.")


class EventRefused(DataError):
    """An event is not what its type says, or does not belong where it is. It is put among the dead letters and has no other effect.

    Attributes:
        reason: `unknown_type`, `unknown_version`, `wrong_topic`, `malformed_data`, `wrong_subject`, `wrong_key` or `from_the_future`.
        field: The attribute of the CloudEvent that is wrong, such as `data.delay_min`.
    """

    reason: str = ""
    field: str = ""

    @classmethod
    def of(cls, kind: str, identifier: str, reason: str, field: str, why: str, next_step: str) -> Self:
        told = f"Event {identifier[:100]} ({kind[:100]}) is refused: {why}."
        error = cls("".join(each if each.isprintable() else "\ufffd" for each in told), next_step)  # names of strangers are in it
        error.reason, error.field = reason, field
        return error


class SchemaBroken(DataError):
    """A schema of events changed in a way that those who read it, or wrote by it, cannot bear."""

    @classmethod
    def of(cls, name: str, version: int, why: str, give: int) -> Self:
        hint = "a version may add optional fields and nothing else: take the change back, or make it a type of its own."
        if give > version:
            hint = f"if it only adds optional fields, make it version {give}; otherwise take it back, or make it a type of its own."
        return cls(f"Version {version} of {name} {why}.", hint)


class MessageUnsendable(DataError, ValueError):
    """A message is none that the bus can take; nothing was sent, nor what was to be sent together with it."""

    @classmethod
    def too_large(cls, topic: str, event: str, size: int, limit: int) -> Self:
        what = f"Event '{event}' for topic '{topic}' is {size} bytes large, at most {limit} are allowed; nothing was sent."
        return cls(what, "put what is large into a table or a file, and its id into the event.")

    @classmethod
    def because(cls, topic: str, event: str, why: str) -> Self:
        return cls(f"Event '{event}' for topic '{topic}' cannot be sent: {why}; nothing was sent.", "correct it where it is made.")


class ModelError(LabError):
    """A model, its package or its place in the registry is not in order."""

    exit_code = 30


class ScorerRefused(ModelError):
    """A model package failed a check and was not loaded.

    Attributes:
        digests: SHA-256 by name of what was found instead, where it is known; for the audit trail.
    """

    digests: Mapping[str, str] = MappingProxyType({})


class TrainingFailed(ModelError):
    """A training ended without a version; the reason is that of the step that failed."""


class NoChampion(ModelError):
    """Nothing was promoted yet."""


class UnknownVersion(ModelError):
    """No such model version."""

    @classmethod
    def of(cls, model: str, number: int, known: Iterable[int]) -> Self:
        numbers = ", ".join(str(each) for each in sorted(known))
        hint = f"choose one of: {numbers}." if numbers else "none is registered yet: `lab train` makes the first."
        return cls(f"{model} has no version {number}.", hint)


class VersionTaken(ModelError):
    """A version of that number is registered with other content; a version never changes."""

    @classmethod
    def by(cls, model: str, number: int, run_id: str) -> Self:
        what = f"{model} version {number} is registered already, by run {run_id}, with other content."
        return cls(what, "register this one under a new number; see `lab audit verify` if the first is not yours.")


class PromotionRefused(ModelError):
    """A version may not take the traffic."""

    @classmethod
    def because(cls, model: str, number: int, why: str, next_step: str) -> Self:
        return cls(f"{model} version {number} may not take the traffic: {why}.", next_step)


class ApprovalRefused(ModelError):
    """This credential may not approve this request."""

    @classmethod
    def own(cls, version: str, by: str) -> Self:
        what = f"'{by}' ordered or registered {version} and may not approve it."
        return cls(what, "have somebody else approve it, with a token of their own.")


class LostTheRace(ModelError):
    """Somebody else wrote to the ledger first; nothing was changed by this call."""

    @classmethod
    def to(cls, role: str, winner: str) -> Self:
        return cls(f"Somebody else was first: the {role} is now {winner}.", "read the ledger again and decide anew; nothing was changed.")

    @classmethod
    def behind(cls, kind: str, subject: str, wanted: int, found: int) -> Self:
        what = f"Somebody else was first: of kind '{kind}' there are {found} facts about {subject} by now, and not {wanted}."
        return cls(what, "read the ledger again and decide anew; nothing was changed.")


class PinRefused(ModelError):
    """A local pin is not what its signature says; it has no effect."""


class NothingToPin(ModelError):
    """There is no version to roll back to; nothing was written."""


class EvidenceError(LabError):
    """A record that should prove something does not."""

    exit_code = 40


class AuditBroken(EvidenceError):
    """The audit trail does not verify."""

    @classmethod
    def at(cls, seq: int, why: str = "cannot be read as it was written") -> Self:
        what = f"The audit trail breaks at entry {seq}: it {why}."
        return cls(what, "keep a copy of the home before anything else, then see `lab audit verify`.")


class EvidenceMissing(EvidenceError):
    """A gate was asked to decide without the evidence it needs."""


class LogDamaged(EvidenceError):
    """A finished part of the prediction log does not read back as it was written."""

    @classmethod
    def at(cls, where: str, offset: int, why: str) -> Self:
        what = f"The prediction log {where} is damaged at byte {offset}: {why}."
        return cls(what, "check the disk; restore that file from a copy, what follows is unread.")


class ServiceError(LabError):
    """Something the platform depends on does not answer."""

    exit_code = 50


class BusUnreachable(ServiceError):
    """The event bus cannot be read or written."""

    @classmethod
    def at(cls, where: str, why: str) -> Self:
        return cls(f"The event bus at {where} does not answer: {why}.", "check the disk and its permissions with `lab doctor`.")

    @classmethod
    def broker(cls, where: str, why: str) -> Self:
        return cls(f"Kafka at {where} does not answer: {why}.", "see that a broker runs there, or set LAB_EVENTS__KAFKA to where it does.")


class BusReplaced(BusUnreachable):
    """The bus is another one than before: offsets of the former one mean nothing in it."""

    @classmethod
    def ends(cls, where: str, topic: str, partition: int, end: int, after: int) -> Self:
        what = f"Partition {partition} of topic '{topic}' on Kafka at {where} ends at {end}, and {after} messages of it were read before"
        return cls(f"{what}: it was made anew, or has lost some.", "let its readers begin again: `lab events replay`.")


class BusTooSlow(BusUnreachable):
    """The bus did not give as much as was asked for in time. The next question will be smaller: ask again soon."""


class BusRefused(BusUnreachable):
    """The broker answers and does not let us in, or not do this. It stays so until somebody changes credentials or rights."""

    @classmethod
    def credentials(cls, where: str, user: str, why: str) -> Self:
        what = f"Kafka at {where} refuses the credentials of user '{user}': {why}."
        return cls(
            what, "they may be wrong or have expired: renew LAB_EVENTS__USER or the file LAB_EVENTS__PASSWORD_FILE; it is read again."
        )

    @classmethod
    def rights(cls, where: str, user: str, what: str) -> Self:
        return cls(f"Kafka at {where} does not allow '{user or 'anonymous'}' to use {what}.", "grant the right on the broker (kafka-acls).")

    @classmethod
    def connection(cls, where: str, security: str, why: str) -> Self:
        return cls(
            f"Kafka at {where} cannot be spoken to by {security}: {why}.",
            "compare LAB_EVENTS__SECURITY, LAB_EVENTS__MECHANISM and LAB_EVENTS__CA_FILE with the listener of the broker.",
        )


class TopicMissing(BusUnreachable):
    """A topic is not on the broker. Topics are made by the platform, never by the way."""

    @classmethod
    def of(cls, where: str, topic: str) -> Self:
        what = f"Kafka at {where} has no topic '{topic}'."
        return cls(what, "make the topics: `lab up --with kafka`, or `lab events topics --create`.")


class TopicDiffers(BusUnreachable):
    """A topic is on the broker, but not as the table of topics says. It is not used as it is."""

    @classmethod
    def of(cls, where: str, topic: str, what: str, found: object, wanted: object) -> Self:
        return cls(
            f"Topic '{topic}' on Kafka at {where} has {what} {found}, and {wanted} is asked for.",
            "make it anew when what it holds may go, or work under another LAB_EVENTS__PREFIX.",
        )


class MessageUnreadable(ServiceError):
    """What is on the bus at one offset is no message.

    Attributes:
        offset: Where; what follows can be read behind it.
        partition: The partition that the offset is of.
        raw: Its bytes as they are there, as far as the bus can give them.
    """

    offset: int = 0
    partition: int = 0
    raw: bytes = b""

    @classmethod
    def at(cls, where: str, topic: str, offset: int, why: str, *, partition: int = 0, raw: bytes = b"") -> Self:
        what = f"Message {offset} of topic '{topic}' on the event bus at {where} cannot be read: {why}."
        error = cls(what, "see who wrote it; readers of facts leave it out.")
        error.offset, error.partition, error.raw = offset, partition, raw
        return error


class RegistryUnreachable(ServiceError):
    """The model registry or the ledger does not answer."""

    @classmethod
    def at(cls, where: str, why: str) -> Self:
        hint = "see `lab status`, then `lab doctor`."
        if where.startswith("postgresql"):
            hint = "see that the server runs, and that the role of LAB_STORES__DATABASE may use it; tables are made by their owner."
        return cls(f"The registry at {where} does not answer: {why}.", hint)


class OrchestratorUnreachable(ServiceError):
    """The Prefect server does not answer, or fails."""

    @classmethod
    def at(cls, where: str, why: str) -> Self:
        return cls(f"Prefect at {where} does not answer as it should: {why}.", "see `lab status`; `lab flows register` makes deployments.")


class StoreUnreachable(ServiceError):
    """The table or artifact store does not answer."""

    @classmethod
    def at(cls, where: str, why: str) -> Self:
        hint = "check the disk and its permissions with `lab doctor`."
        if where.startswith("s3://"):
            hint = "see that the server runs, that the bucket exists, and that the key of LAB_STORES__S3_KEY_FILE may read and write there."
        return cls(f"The store at {where} does not answer: {why}.", hint)


class StoreUnsafe(ServiceError):
    """The table store would lose rows of two writers at once, without any error; nothing was written to its tables."""

    @classmethod
    def at(cls, where: str) -> Self:
        what = f"The store at {where} put a key that was there, though told not to (If-None-Match: *): two writers at once would lose rows."
        return cls(what, "use a store that honours it, such as Amazon S3 or Versity S3 Gateway, or unset LAB_STORES__TABLES.")


class FeatureStoreUnreachable(ServiceError):
    """The online table of the feature store does not answer, or not in time.

    Attributes:
        reason: One word for counting: `timeout`, `refused`, `lost`, `credentials`, `reply`, or `error`.
        unasked: It did not answer before, and was not asked this time.
    """

    reason: str = "error"
    unasked: bool = False

    @classmethod
    def at(cls, where: str, why: str, reason: str = "error") -> Self:
        what = f"The online feature store at {where} does not answer: {why}."
        error = cls(what, "see `lab status` and `lab doctor`; answers go on.")
        error.reason = reason
        return error


class FeaturesRefused(ServiceError):
    """The use case's policy wants no answer from features that are stale or absent."""

    @classmethod
    def without(cls, source: str, max_age_s: float) -> Self:
        what = f"Nothing of '{source}' that is less than {max_age_s:g} s old is known, and there is no answer without it."
        return cls(what, "ask again later; see `/readyz` for the state of the features.")

    @classmethod
    def stale(cls, behind_s: float) -> Self:
        what = f"The stream of facts is more than {behind_s:g} s behind the question's moment, and there is no answer without it."
        return cls(what, "ask again later; see `/readyz` for the state of the features.")


class LogUnwritable(ServiceError):
    """The prediction log cannot be written, so nothing may be answered."""

    @classmethod
    def at(cls, where: str, why: str) -> Self:
        what = f"The prediction log in {where} cannot be written: {why}."
        return cls(what, "free disk space or repair permissions; answers resume by themselves.")


class PortInUse(ServiceError):
    """Another program listens on the port a service needs."""

    @classmethod
    def at(cls, host: str, port: int) -> Self:
        return cls(f"Something else listens on {host}:{port}.", "stop it, or choose another port; `lab status` shows what is ours.")


class ServiceNotReady(ServiceError):
    """A service did not become ready, or did not answer, in time."""


class UsageError(LabError):
    """The command or a setting cannot be followed as given."""

    exit_code = 2


class OrchestratorRefused(UsageError):
    """The Prefect server answers, and will not do what it was asked: asking again would change nothing."""

    @classmethod
    def of(cls, where: str, asked: str, status: int, why: str) -> Self:
        hint = "make deployments known with `lab flows register`, then order it anew."
        return cls(f"Prefect at {where} refuses {asked} with {status}: {why}.", hint)


class SettingsWrong(UsageError):
    """A setting is misspelt, missing or out of range."""


class HomeInUse(UsageError):
    """Another process works in this home."""


class UnknownName(UsageError):
    """No such thing by that name."""

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str]) -> Self:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"choose one of: {', '.join(names)}."
        return cls(f"There is no {kind} called '{name}'.", hint)
