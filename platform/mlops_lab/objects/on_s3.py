"""An object store through `obstore`: the same Rust client that Delta Lake writes with, in a tenth of its size."""

import re
import uuid
from contextlib import suppress
from datetime import timedelta

from obstore import delete, put
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from mlops_lab.errors import StoreUnreachable, StoreUnsafe
from mlops_lab.objects.place import Place


def opened(place: Place) -> S3Store:
    """A client of all keys under the place; nothing is asked before its first use."""
    options = place.options()
    timeouts = {name: options.pop(name) for name in ("timeout", "connect_timeout")}
    allow = options.pop("aws_allow_http", "false") == "true"
    return S3Store(
        place.bucket,
        prefix=place.prefix or None,
        config=options,  # type: ignore[arg-type]  # names as Delta Lake has them; the client knows them too
        client_options={"allow_http": allow, "timeout": timeouts["timeout"], "connect_timeout": timeouts["connect_timeout"]},
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=place.timeout_s)},
    )


def require_conditional_put(place: Place) -> None:
    """Put a key twice under the condition that it is not there; the second time has to be refused.

    Delta Lake's commits are such puts. A store that overlooks the condition acknowledges two writers and keeps one, without any error.

    Raises:
        StoreUnsafe: It does not refuse.
        StoreUnreachable: It does not answer, or not to us.
    """
    store, key = opened(place), f"_lab-check-{uuid.uuid4().hex}"
    try:
        with suppress(AlreadyExistsError):  # nobody else has this key: our own first try arrived and its receipt was lost
            put(store, key, b"first", mode="create", use_multipart=False)
        try:
            put(store, key, b"second", mode="create", use_multipart=False)
        except AlreadyExistsError:
            return
        finally:
            delete(store, key)
    except (BaseError, OSError) as error:  # the client says that a bucket is missing with an OSError
        raise unreachable(place, error) from error
    raise StoreUnsafe.at(place.shown)


def require_readable(place: Place) -> None:
    """Ask for the first key of a place, if there is one. Raises StoreUnreachable."""
    try:
        next(iter(opened(place).list(chunk_size=1)), None)
    except (BaseError, OSError) as error:
        raise unreachable(place, error) from error


def unreachable(place: Place, error: BaseException) -> StoreUnreachable:
    """In one line: the client's own text goes over many, with the server's XML and its own innards in it."""
    text = str(error)
    code = re.search(r"<Code>(\w+)</Code>", text)
    return StoreUnreachable.at(place.shown, code[1] if code else text.strip().split("\n", 1)[0][-200:].lstrip())
