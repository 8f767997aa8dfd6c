"""Who may write: bearer tokens from a file, several at a time so that they can be exchanged without a gap."""

import hashlib
import hmac
import logging
import time
from pathlib import Path

from mlops_lab.errors import SettingsWrong
from mlops_lab.serving.contract import Refusal

_LOOK_EVERY_S = 1.0

_log = logging.getLogger(__name__)


class Tokens:
    """The tokens of a file, one per line; empty lines and lines that begin with # are left out.

    To exchange one: add the new line, let the senders change over, take the old line away. The file is read again within a second
    after it changed; while it is unreadable or empty, the tokens that were known last stay.
    """

    def __init__(self, path: Path) -> None:
        """Raises SettingsWrong where the file has no token: an empty one would let everybody in, or nobody."""
        self._path = path
        self._look_at = 0.0
        self._stamp: tuple[int, int] | None = None
        self._digests: list[bytes] = []
        self._read()
        if not self._digests:
            raise SettingsWrong(f"There is no token in {path}.", "`lab up` makes one; else write one token per line into the file.")

    def require(self, header: bytes | None, what: str) -> None:
        """Check an `Authorization` header against all tokens, in a time that does not tell how close it came. Raises Refusal 401."""
        if time.monotonic() >= self._look_at:
            self._read()
        scheme, _, token = (header or b"").partition(b" ")
        offered = _digest(token.strip())
        fits = False
        for digest in self._digests:
            fits |= hmac.compare_digest(offered, digest)
        if not fits or scheme.lower() != b"bearer":
            raise Refusal(401, "Not authorized", f"Send the header 'Authorization: Bearer <token>' with this service's {what} token.")

    def _read(self) -> None:
        self._look_at = time.monotonic() + _LOOK_EVERY_S
        try:
            found = self._path.stat()
            stamp = (found.st_mtime_ns, found.st_size)
            if stamp == self._stamp:
                return
            lines = [line.strip() for line in self._path.read_text(encoding="ascii").splitlines()]
        except (OSError, ValueError) as error:
            _log.error("serving.tokens_unreadable", extra={"path": str(self._path), "why": str(error)})
            return
        digests = [_digest(line.encode()) for line in lines if line and not line.startswith("#")]
        if digests:
            self._stamp, self._digests = stamp, digests
        else:
            _log.error("serving.tokens_unreadable", extra={"path": str(self._path), "why": "it holds no token"})


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
