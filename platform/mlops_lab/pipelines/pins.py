"""A rollback when the ledger cannot be reached: a signed pin in each replica's folder; and its way into the ledger afterwards."""

import logging
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from mlops_lab.bootstrap import Lab
from mlops_lab.clock import iso
from mlops_lab.errors import LabError, NoChampion, NothingToPin, SettingsWrong, StoreUnreachable
from mlops_lab.registry.version import Assignment
from mlops_lab.scoring.keys import PRIVATE, KeyRing, signing_key
from mlops_lab.scoring.store import DirectoryStore
from mlops_lab.serving.cache import PackageCache
from mlops_lab.serving.known import Known, KnownFile, Served
from mlops_lab.serving.pin import CACHE, PIN, STATE, Pin, WayBack, changing, pins_in, put, to_body, way_back

_NEVER_MAKE_ROOM = 1_000_000
"""What a replica keeps is its own business."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pinned:
    """What a local rollback did.

    Attributes:
        pin: As every replica has it now.
        replicas: Names of those that it was written for now.
        completed: True where the pin was there already, but not with all of them: whoever wrote it was interrupted.
    """

    pin: Pin
    replicas: tuple[str, ...]
    completed: bool = False


def roll_back_locally(lab: Lab, *, by: str, why: str, to: int | None = None) -> Pinned:
    """Pin every replica of the home to a version that it served before. Needs nothing but the home's keys and the replicas' folders.

    Args:
        lab: The home; none of its ports is used.
        by: Who says so.
        why: A sentence.
        to: The version; None for the last one before the present.

    Raises:
        NothingToPin: There is no such version, or its package is nowhere to be had. Nothing was written.
        SettingsWrong: The home has no signing key.
    """
    if not (lab.keys / PRIVATE).is_file():
        raise SettingsWrong(f"There is no signing key in {lab.keys}.", "restore it from a backup: replicas obey no other.")
    keys, serving = KeyRing(lab.keys), lab.home / "serving"
    with changing(serving):
        states = _states(serving)
        folders = sorted(path for path in serving.iterdir() if path.is_dir())
        settled = {pin for state in states.values() for pin in state.settled}
        found, _ = pins_in(serving, keys)
        standing = {path.parent: pin for path, pin in found.items() if pin.id not in settled}
        newest = max(standing.values(), key=lambda pin: pin.number, default=None)
        if newest is not None and to in (None, newest.version):
            lacking = [folder for folder in folders if standing.get(folder) != newest]
            if lacking:
                served = Served(newest.version, newest.assignment, newest.assigned_at, newest.scorer_sha256)
                _carry(served, newest.model, folders, lab, keys)
                return Pinned(newest, _write(newest, lacking, lab), completed=True)
        back = way_back(states.values(), standing.values(), to)
        served = _at_hand(back, folders, lab, keys)
        pin = Pin(
            id=f"pin-{secrets.token_hex(8)}",
            number=max((each.number for each in found.values()), default=0) + 1,
            model=back.model,
            version=served.version,
            scorer_sha256=served.scorer_sha256,
            assignment=served.assignment,
            assigned_at=served.assigned_at,
            leaving=back.leaving,
            left_assignment=back.left_assignment,
            barred=tuple(number for number in back.barred if number != served.version),
            by=by,
            why=why,
            at=iso(lab.clock.now()),
        )
        return Pinned(pin, _write(pin, folders, lab))


def take_in_pins(lab: Lab, at: datetime | None = None) -> list[Assignment]:
    """Bring what local pins did into the ledger, once, and remove their files. Cheap where there is none.

    Of several pins the newest counts. A file is removed only after the ledger holds it, so whoever is killed in between leaves something
    to be done again, which has no effect but the removal.

    Args:
        lab: The home.
        at: Event time; None for the newest that the ledger knows of.

    Returns:
        What was assigned; empty where nothing was new.

    Raises:
        RegistryUnreachable: The ledger does not answer; the pins stay as they are.
    """
    serving = lab.home / "serving"
    if not any(serving.glob(f"*/{PIN}")):
        return []
    taken: list[Assignment] = []
    with changing(serving):
        found, refused = pins_in(serving, KeyRing(lab.keys))
        for path, error in refused.items():
            log.error("pin.refused", extra={"path": str(path), "why": error.what})
        if not found:
            return []
        newest = max(found.values(), key=lambda pin: pin.number)
        older = {pin.id for pin in found.values()} - {newest.id}
        barred = {number for pin in found.values() for number in pin.barred} - {newest.version}
        try:
            assigned = lab.ledger.take_in_pin(
                newest.id,
                newest.version,
                barring=barred,
                superseded=older,
                at=at or _newest_moment(lab),
                by=newest.by,
                why=newest.why,
                body=to_body(newest),
            )
        except LabError as error:
            log.error("pin.not_taken_in", extra={"pin": newest.id, "version": newest.version, "why": error.what})
            raise
        if assigned is not None:
            taken.append(assigned)
            log.info("pin.taken_in", extra={"pin": newest.id, "version": newest.version, "assignment": assigned.id})
        for path in found:
            path.unlink(missing_ok=True)
    return taken


def _newest_moment(lab: Lab) -> datetime:
    """The newest event time in the ledger's decisions and assignments: a pin knows wall time only."""
    moments = [fact.at for fact in lab.ledger.facts("decision")] + [line.at for line in lab.ledger.assignments()]
    if not moments:
        raise NoChampion("This ledger has no assignment that a pin could be newer than.", "restore the ledger that the replicas followed.")
    return max(moments)


def _states(serving: Path) -> dict[Path, Known]:
    """What each replica of a home remembers, by its folder."""
    found = {path.parent: KnownFile(path).read() for path in sorted(serving.glob(f"*/{STATE}"))}
    return {folder: known for folder, known in found.items() if known is not None}


def _write(pin: Pin, folders: Sequence[Path], lab: Lab) -> tuple[str, ...]:
    """Write a pin into each folder; the names of those that took it. Raises StoreUnreachable where none did."""
    key, written, failed = signing_key(lab.keys), [], StoreUnreachable.at(str(lab.home / "serving"), "it holds no replica")
    for folder in folders:
        try:
            put(folder / PIN, pin, key)
            written.append(folder.name)
        except OSError as error:
            failed = StoreUnreachable.at(str(folder), str(error))
            log.error("pin.not_written", extra={"replica": folder.name, "why": str(error)})
    if not written:
        raise failed
    log.info("pin.written", extra={"pin": pin.id, "version": pin.version, "leaving": pin.leaving, "replicas": written})
    return tuple(written)


def _at_hand(back: WayBack, folders: Sequence[Path], lab: Lab, keys: Iterable[Ed25519PublicKey]) -> Served:
    """The best choice whose package every replica has, or is given here from another one's cache or from the store."""
    why = ""
    for served in back.choices:
        try:
            _carry(served, back.model, folders, lab, keys)
            return served
        except LabError as error:
            why = error.what
    raise NothingToPin(
        f"The package of version {back.choices[0].version} is in no replica's cache and not in the store: {why}",
        "start the store, or choose another version with --to.",
    )


def _carry(served: Served, model: str, folders: Sequence[Path], lab: Lab, keys: Iterable[Ed25519PublicKey]) -> None:
    """See to it that a package is in each replica's cache, checked. Raises ScorerRefused, StoreUnreachable."""
    sources = [*(folder / CACHE for folder in folders), lab.home / "packages"]
    for folder in folders:
        failed: LabError | None = None
        for source in sources:
            cache = PackageCache(folder / CACHE, DirectoryStore(source), keys, keep=_NEVER_MAKE_ROOM)
            try:
                cache.scorer(served.scorer_sha256, model)
                break
            except LabError as error:
                failed = error
        else:
            assert failed is not None  # there is at least one source
            raise failed
