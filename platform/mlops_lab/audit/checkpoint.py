"""Signed heads of the chain, kept in a second place: what a hash chain alone cannot show is that its end was cut off."""

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from mlops_lab.errors import StoreUnreachable

_TAIL_BYTES = 4096  # a line has about 240 bytes, so the last whole one is always inside


@dataclass(frozen=True, slots=True)
class Head:
    """Says that the chain once reached `seq` with `hash`; the signature is 64 bytes as hexadecimal text."""

    seq: int
    hash: str
    signature: str

    def signed_by_one_of(self, keys: Iterable[Ed25519PublicKey]) -> bool:
        """Whether one of the keys made the signature."""
        try:
            signature = bytes.fromhex(self.signature)
        except ValueError:
            return False
        for key in keys:
            try:
                key.verify(signature, _signed_text(self.seq, self.hash))
                return True
            except InvalidSignature:
                continue
        return False

    def to_line(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":")).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "Head | None":
        """Read a line; None where it is not exactly a head."""
        try:
            values = json.loads(line)
        except ValueError:
            return None
        if not isinstance(values, dict) or set(values) != {"seq", "hash", "signature"}:
            return None
        seq, digest, signature = values["seq"], values["hash"], values["signature"]
        if type(seq) is not int or not isinstance(digest, str) or not isinstance(signature, str):
            return None
        return cls(seq, digest, signature)


def seal(seq: int, digest: str, key: Ed25519PrivateKey) -> Head:
    """Sign the head of the chain."""
    return Head(seq, digest, key.sign(_signed_text(seq, digest)).hex())


class HeadsFile:
    """The second place: one JSON line per recorded transaction, line n holds head n, only ever appended to.

    Several processes may append; a lock on the file keeps the lines in order and whole. A line that a dying process
    left half-written is dropped by the next append, which writes that head again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append_missing(self, upto: int, missing: Callable[[int], Iterable[Head]]) -> int:
        """Bring the file up to head `upto`.

        Args:
            upto: Seq of the newest head known to the caller.
            missing: Gives the heads behind a seq, in order; asked only when some are missing.

        Returns:
            How many lines were added. None are when the last line cannot be read: `verify` then names it.

        Raises:
            StoreUnreachable: The file cannot be read or written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                last, end = _last_whole_line(descriptor)
                if last is None or last >= upto:
                    return 0
                heads = list(missing(last))
                os.ftruncate(descriptor, end)
                _write_all(descriptor, b"".join(head.to_line() for head in heads), end)
                os.fsync(descriptor)
                return len(heads)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StoreUnreachable.at(str(self.path), str(error)) from error

    def read(self) -> Sequence[Head | None]:
        """All heads in order of their lines, None for a line that is no head; a half-written last line is left out.

        Raises:
            StoreUnreachable: The file is there but cannot be read.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreUnreachable.at(str(self.path), str(error)) from error
        return [Head.from_line(line) for line in content.split(b"\n")[:-1]]


def _last_whole_line(descriptor: int) -> tuple[int | None, int]:
    """Seq of the last whole line (0 in an empty file, None where it is no head) and the position behind it."""
    size = os.fstat(descriptor).st_size
    start = max(0, size - _TAIL_BYTES)
    tail = os.pread(descriptor, size - start, start)
    end = tail.rfind(b"\n") + 1
    if end == 0:
        return (0, 0) if start == 0 else (None, size)
    head = Head.from_line(tail[tail.rfind(b"\n", 0, end - 1) + 1 : end - 1])
    return (head.seq if head else None), start + end


def _write_all(descriptor: int, content: bytes, position: int) -> None:
    while content:
        written = os.pwrite(descriptor, content, position)
        content, position = content[written:], position + written


def _signed_text(seq: int, digest: str) -> bytes:
    # The first line keeps a signature made here from being mistaken for one over a model package, which the same key may sign.
    return f"mlops-lab-audit-head/1\n{seq}\n{digest}\n".encode()
