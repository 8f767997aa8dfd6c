"""Whether a service does its work yet, asked from outside."""

import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

# Services are on this machine: a proxy from the environment would only be in the way.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def is_ready(ready: str | Path, timeout_s: float = 2.0) -> bool:
    """Whether the URL answers 2xx, or the file is there. A refused connection, a 503 and silence all mean: not yet."""
    if isinstance(ready, Path):
        return ready.exists()
    try:
        with _OPENER.open(ready, timeout=timeout_s) as answer:
            return bool(200 <= answer.status < 300)
    except urllib.error.HTTPError as answer:
        answer.close()
        return False
    except (OSError, HTTPException):
        return False


def log_tail(log: Path, start: int, lines: int = 15) -> str:
    """The last lines that a service wrote since byte `start`, indented; says so when it wrote none."""
    try:
        with log.open("rb") as file:
            file.seek(max(start, log.stat().st_size - 16_384))
            said = file.read().decode(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        said = []
    return "\n".join(f"    {line}" for line in said) or "    (it wrote nothing)"
