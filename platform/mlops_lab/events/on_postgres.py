"""What is special about PostgreSQL: how it is spoken to, how long it is waited for, and which of its refusals are an outage.

Every wait ends: for a connection, for a lock, for an answer, and on the server for a client that stopped in the middle of a transaction
and would keep the writers' lock. Connections are tried before they are used, so that a server that was restarted is found again.
"""

import math
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from mlops_lab.errors import SettingsWrong

ANSWER_S = 20.0
"""What a statement may take beyond the wait for other writers."""

ABANDONED_S = 60
"""After so many seconds of silence within a transaction, the server ends it: nobody keeps the writers' lock for ever."""

_REFUSALS = {
    "42P01": "its tables are gone",
    "3F000": "the schema is missing in which the tables would be",
    "42501": "the role may not do this",
    "25006": "it takes no writes now",
}


def with_driver(url: str) -> str:
    """The address for psycopg 3, which is the driver that is installed."""
    scheme, separator, rest = url.partition("://")
    return f"postgresql+psycopg{separator}{rest}" if scheme in ("postgres", "postgresql") else url


def options(url: str, patience_s: float, reads_only: bool) -> dict[str, Any]:
    """Arguments of `create_engine`. What the address says itself, such as a search path, stays."""
    said = make_url(with_driver(url)).query
    timeouts = {
        "lock_timeout": int(patience_s * 1000),
        "statement_timeout": int((patience_s if reads_only else patience_s + ANSWER_S) * 1000),
        "idle_in_transaction_session_timeout": ABANDONED_S * 1000,
        "synchronous_commit": "on",  # the second place of the audit may never know more than the database after a power cut
    } | ({"default_transaction_read_only": "on"} if reads_only else {})
    ours = " ".join(f"-c {name}={value}" for name, value in timeouts.items())
    theirs = said.get("options", "")
    return {
        "pool_pre_ping": True,
        "pool_size": 2,
        "pool_timeout": patience_s,
        "pool_recycle": 600,
        "pool_use_lifo": True,
        "connect_args": {
            "options": f"{ours} {theirs if isinstance(theirs, str) else ' '.join(theirs)}".strip(),
            "connect_timeout": max(2, math.ceil(min(patience_s, 5))),  # seconds; the driver takes no less than 2
            "tcp_user_timeout": int(max(patience_s, 2) * 1000),  # ms that sent bytes may stay without a receipt
            "keepalives_idle": 15,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "application_name": said.get("application_name", "mlops-lab"),
        },
    }


def give_password(path: Path, dialect: Any, record: Any, arguments: list[Any], options: dict[str, Any]) -> None:
    """Before each connection, so that a password may be changed while we run. Raises SettingsWrong."""
    try:
        options["password"] = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise SettingsWrong(
            f"The password of the database cannot be read from {path}: {error}.", "correct LAB_STORES__DATABASE_PASSWORD_FILE or the file."
        ) from error


def refusal(error: BaseException | None) -> str | None:
    """In words, what a server refuses for a reason that a person can remove; None for mistakes in a statement, and for SQLite."""
    code = getattr(error, "sqlstate", None)
    return f"{_REFUSALS[code]} ({str(error).splitlines()[0]})" if code in _REFUSALS else None
