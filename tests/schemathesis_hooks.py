"""Read by schemathesis (SCHEMATHESIS_HOOKS): what no schema says is that a key and an event id belong to one content for ever."""

from itertools import count
from typing import Any

import schemathesis

_numbers = count()


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Give every request its own key and event ids, where they are such as the service takes."""
    if "Idempotency-Key" in (case.headers or {}):
        case.headers["Idempotency-Key"] = _own(case.headers["Idempotency-Key"])
    items = case.body.get("items") if isinstance(case.body, dict) else None
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and "event_id" in item:
            item["event_id"] = _own(item["event_id"])


def _own(name: Any) -> Any:
    valid = isinstance(name, str) and name.isascii() and name.isprintable() and " " not in name and 0 < len(name) <= 128
    return f"{name[:110]}-{next(_numbers)}" if valid else name
