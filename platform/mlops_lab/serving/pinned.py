"""Obeying a local pin: what it names is put in place from the cache, and nothing of the ledger, until that has taken the pin in."""

import logging
import threading
from collections.abc import Collection

from mlops_lab.clock import from_iso
from mlops_lab.errors import PinRefused
from mlops_lab.registry.ledger import TRIALS
from mlops_lab.serving.dependency import Dependency
from mlops_lab.serving.loading import Loader, Retry
from mlops_lab.serving.memory import Memory
from mlops_lab.serving.pin import Pin, PinFile
from mlops_lab.serving.place import Place
from mlops_lab.serving.telling import Telling, words
from mlops_lab.serving.trials import Trials

_log = logging.getLogger(__name__)


class Pinned:
    """Sets and ends `Place.pin`. `look` belongs to the thread that waits for nobody, `taken_in` to the one that asks the ledger.

    States: `none`, `set`, `refused` (not ours), `unusable` (what it names cannot be had; what answers stays, and is not changed).
    """

    def __init__(
        self,
        file: PinFile | None,
        loader: Loader,
        place: Place,
        trials: Trials,
        memory: Memory,
        telling: Telling,
        retry_s: float,
        lock: threading.RLock,
    ) -> None:
        self._file = file
        self._loader = loader
        self._place = place
        self._trials = trials
        self._memory = memory
        self._telling = telling
        self._retry = Retry(retry_s)
        self._lock = lock
        self._state = "none"

    def look(self) -> None:
        """Obey the pin file as it is now."""
        if self._file is None:
            return
        try:
            pin = self._file.read()
        except PinRefused as error:
            self._refuse(error.what, error.what, {})
            return
        with self._lock:
            known = self._memory.known
            if pin is None or (known is not None and pin.id in known.settled):
                self._nothing_to_obey(gone=pin is None)
                return
            if known is not None and pin.model != known.model:
                self._refuse(pin.id, f"The local pin is of model '{pin.model}', not of {known.model}.", {"pin": pin.digest})
                return
            if self._place.pin is not None and self._place.pin.id == pin.id and self._state == "set":
                return
            self._place.pin = pin
        if not self._retry.waits(pin.id):
            self._obey(pin)

    def taken_in(self, pins: Collection[str]) -> None:
        """End the pin in force if it is one of these, which the ledger has taken in."""
        with self._lock:
            pin = self._place.pin
            if pin is None or pin.id not in pins:
                return
            _log.info("serving.pin_taken_in", extra={"pin": pin.id, "version": pin.version})
            self._place.pin, self._state = None, "none"
            self._telling.say("pin", None)

    def dependency(self) -> Dependency:
        """`pin`."""
        about: dict[str, int | float | str | None] = {}
        with self._lock:
            pin = self._place.pin
            if pin is not None:
                about = {"id": pin.id, "version": pin.version, "leaving": pin.leaving, "by": pin.by, "reason": pin.why}
            return Dependency("pin", self._state, self._telling.of("pin"), about)

    def _nothing_to_obey(self, *, gone: bool) -> None:
        """There is no file, or one that the ledger has taken in: the latter ends the pin in force by `taken_in`."""
        if gone and self._place.pin is not None:
            _log.warning("serving.pin_removed", extra={"pin": self._place.pin.id})
            self._place.pin = None
        if self._place.pin is None:
            self._state = "none"
            self._telling.say("pin", None)

    def _refuse(self, once: str, what: str, digests: dict[str, str]) -> None:
        assert self._file is not None
        with self._lock:
            self._state = "refused"
        self._telling.say("pin", what)
        self._telling.tell(("pin_refused", once), "pin_refused", self._file.path.parent.name, what, digests)

    def _obey(self, pin: Pin) -> None:
        """Put what a pin names in place, from the cache, and nobody on trial."""
        try:
            at = from_iso(pin.assigned_at)
            loaded = self._loader.loaded(pin.model, pin.version, pin.assignment, at, pin.scorer_sha256, self._place.loaded())
        except Exception as error:
            self._retry.failed(pin.id)
            with self._lock:
                self._state = "unusable"
            self._telling.say("pin", f"Version {pin.version}, which a local pin names, could not be put in place: {words(error)}")
            return
        self._retry.succeeded()
        with self._lock:
            if self._place.pin is not pin:
                return  # taken in meanwhile: the ledger counts again
            self._trials.pause()
            known = self._memory.known
            barred = tuple(sorted({*(known.barred if known else ()), *pin.barred}))
            self._place.put(loaded, {}, barred=barred, left=pin.barred, not_before=pin.left_assignment)
            self._state = "set"
        for part in ("champion", *TRIALS):
            self._telling.say(part, None)
        self._telling.say("pin", f"A local pin by {pin.by} keeps version {pin.version} in place of {pin.leaving}: {pin.why}")
        digests = {"pin": pin.digest, "scorer": pin.scorer_sha256}
        self._telling.tell(("pin_set", pin.id), "pin_set", f"{pin.model}/{pin.version}", f"{pin.by}: {pin.why}", digests)
