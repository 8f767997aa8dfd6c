"""What went wrong at a replica or in its log, as facts of the ledger with their audit entries: each once, however often it is found."""

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.identities import PLATFORM
from mlops_lab.errors import StoreUnreachable
from mlops_lab.registry.ledger import INCIDENT
from mlops_lab.serving.prediction_log import Damage, Position
from mlops_lab.serving.segments import segment_numbers

if TYPE_CHECKING:
    from mlops_lab.data.frames import Incident
    from mlops_lab.data.shipping import Strange

_LONGEST = 1_000
_TORN = re.compile(r"(\d{12})\.log\.torn-(\d+)")

log = logging.getLogger(__name__)


class Incidents:
    """The incidents of one log of a replica. Their subjects begin with the log's name, then a position in it."""

    def __init__(self, lab: Lab, replica: str, folder: Path, name: str) -> None:
        self._lab = lab
        self._replica = replica
        self._folder = folder
        self._name = name

    def told(self, position: int, incident: "Incident") -> None:
        """What the replica itself has to tell, in its own name."""
        body = {"what": incident.what, "subject": incident.subject, "why": incident.why, "digests": dict(incident.digests)}
        self._record(str(position), body, at=incident.at, by=self._replica)

    def damaged(self, damage: Damage) -> None:
        """Bytes that cannot be read: a copy is put beside the segment, and the record says how many there are.

        Raises StoreUnreachable where the copy cannot be written: then nobody reads on.
        """
        position = f"{damage.begin.number}/damage"
        if self._subject(position) in self._known:
            return
        kept = damage.path.with_name(f"{damage.path.name}.damaged-{damage.begin.offset}")
        try:
            with damage.path.open("rb") as segment:
                segment.seek(damage.begin.offset)
                content = segment.read(damage.size)
            kept.write_bytes(content)
        except OSError as error:
            raise StoreUnreachable.at(str(kept), str(error)) from error
        why = f"{damage.size} bytes of {damage.path.name} could not be read from byte {damage.begin.offset} on: {damage.why}"
        log.error("shipping.log_damaged", extra={"replica": self._replica, "segment": damage.path.name, "unreadable_bytes": damage.size})
        facts = {"segment": damage.path.name, "offset": damage.begin.offset, "unreadable_bytes": damage.size, "kept_as": kept.name}
        self._found("log_damaged", position, why, facts, {"bytes": hashlib.sha256(content).hexdigest()})

    def missing(self, behind: Position) -> None:
        """Segments that are gone although nobody shipped them."""
        numbers = segment_numbers(self._folder)
        gone = sorted(set(range(max(1, behind.segment), numbers[-1])) - set(numbers)) if numbers else []
        if gone:
            log.error("shipping.segments_missing", extra={"replica": self._replica, "segments": gone[:20], "count": len(gone)})
            why = f"{len(gone)} segments of the log are gone that were not shipped, the first is {gone[0]}"
            self._found("segments_missing", f"{gone[0]}-{gone[-1]}/missing", why, {"first": gone[0], "last": gone[-1], "count": len(gone)})

    def behind_tables(self, tabled: Position) -> bool:
        """Whether the log ends before what the tables have of it. What is in it may be another log's, so it must not be dropped."""
        last = max(segment_numbers(self._folder), default=tabled.segment)
        if last < tabled.segment:
            log.error("shipping.log_behind", extra={"replica": self._replica, "last": last, "tables": tabled.segment})
            why = f"the log ends with segment {last}, the tables have it up to segment {tabled.segment}: what is in it is not shipped"
            self._found("log_behind", f"{tabled.number}/behind", why, {"last": last})
        return last < tabled.segment

    def cut_tails(self) -> None:
        """Unfinished records that a replica cut off at its start."""
        for path in sorted(self._folder.glob("*.log.torn-*")):
            named = _TORN.fullmatch(path.name)
            if named is None:
                continue
            position = f"{Position(int(named.group(1)), int(named.group(2))).number}/cut"
            if self._subject(position) not in self._known:
                content = path.read_bytes()
                facts = {"kept_as": path.name, "cut_bytes": len(content)}
                why = f"{len(content)} bytes of an unfinished record were cut off at a start of the replica"
                self._found("tail_cut", position, why, facts, {"bytes": hashlib.sha256(content).hexdigest()})

    def set_aside(self, strange: Sequence["Strange"]) -> None:
        """Frames that this release does not understand: one record per kind, whatever their number."""
        for kind, first in {one.kind: one for one in reversed(strange)}.items():
            count = sum(1 for one in strange if one.kind == kind)
            log.error("shipping.frames_set_aside", extra={"replica": self._replica, "kind": kind, "count": count, "why": first.why})
            facts = {"kind": kind, "first": first.position}
            self._found("frames_set_aside", f"set-aside/{kind}", f"frames of kind '{kind}' are set aside: {first.why}", facts)

    def _found(self, what: str, position: str, why: str, facts: Mapping[str, Any], digests: Mapping[str, str] | None = None) -> None:
        body = {"what": what, "subject": self._replica, "why": why, "digests": dict(digests or {}), **facts}
        self._record(position, body, at=self._lab.clock.now(), by=PLATFORM)

    def _record(self, position: str, body: Mapping[str, Any], *, at: datetime, by: str) -> None:
        subject = self._subject(position)
        if subject in self._known:
            return
        short = {name: value[:_LONGEST] if isinstance(value, str) else value for name, value in body.items()}
        self._lab.ledger.record(INCIDENT, subject, short, at=at, by=by, why=short["why"] or short["what"])
        self._known.add(subject)

    def _subject(self, position: str) -> str:
        return f"{self._name}/{position}"

    @cached_property
    def _known(self) -> set[str]:
        """What is recorded already: looked up at the first incident, since most calls have none."""
        return {fact.subject for fact in self._lab.ledger.facts(INCIDENT)}
