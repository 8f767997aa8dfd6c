"""F7: what a power cut leaves. Seen in the order of system calls: the record first, then its flush, then the first byte of the 200."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mlops_lab.chaos.client import Client
from mlops_lab.chaos.fault import Fault, Finding, Size, few
from mlops_lab.chaos.history import Request, failures, read_history
from mlops_lab.chaos.load import Plan
from mlops_lab.chaos.replica import Trace
from mlops_lab.chaos.world import World

Durability = Literal["process", "disk"]

_CALLS = "write,writev,pwrite64,pwritev,send,sendto,sendmsg,fsync,fdatasync"
_LINE = re.compile(r"^(\d+) +[\d.]+ (.*)$")
_RESUMED = re.compile(r"^<\.\.\. (\w+) resumed>(.*)$")
_CALL = re.compile(r"^(\w+)\(\d+<([^>]*(?:->[^>]*)?)>")
_RESULT = re.compile(r"\) += (-?\d+)")
_LOGGED = re.compile(r'\\"request_id\\":\\"([^\\"]+)\\"')
_ANSWERED = re.compile(r"x-request-id: ([^\\\s]+)\\r\\n", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Call:
    """One system call: what, on which file or socket, its text, its result, and the lines of the trace where it began and ended."""

    name: str
    on: str
    text: str
    result: int
    began: int
    ended: int


@dataclass(frozen=True)
class Order:
    """What one trace shows of one request: the lines where its record was written, flushed after that, and its 200 begun; None if never."""

    written: int | None
    flushed: int | None
    answered: int


@dataclass(frozen=True)
class Traced:
    """The evidence: the client's history and what strace saw, by durability."""

    requests: Mapping[Durability, Sequence[Request]]
    orders: Mapping[Durability, Mapping[str, Order]]


def run(world: World, seed: int, size: Size) -> Traced:
    """Ask under strace, once for each durability."""
    requests: dict[Durability, Sequence[Request]] = {}
    orders: dict[Durability, Mapping[str, Order]] = {}
    levels: tuple[Durability, ...] = ("process", "disk")
    for durability in levels:
        home = world.home()
        history, trace = home.path / "history.jsonl", home.path / "strace.txt"
        plan_most = size.of(300, 3000)
        with home.replica(traced=Trace(trace, _CALLS, text=400_000), durability=durability) as replica:
            replica.start()
            plan = Plan((replica.port,), str(history), str(home.bodies), most=plan_most, seconds=120, timeout_s=30, seed=seed)
            with Client(plan) as client:
                client.wait()
            replica.end()
        requests[durability] = read_history(history)
        orders[durability] = orders_of(calls_in(trace.read_text(errors="replace").splitlines()), str(home.log()))
    return Traced(requests, orders)


def check(seen: Traced) -> Finding:
    """Every 200 of the client has its record, and for `disk` its flush, finished before the answer began."""
    broken: tuple[str, ...] = ()
    counts = []
    for durability, requests in seen.requests.items():
        broken += failures(requests)
        answered = [request for request in requests if request.status == 200]
        if not answered:
            broken += (f"{durability}: nothing was answered, so nothing was tried",)
        wrong = []
        for request in answered:
            order = seen.orders[durability].get(request.id)
            if order is None:
                wrong.append(f"{durability}: the answer to {request.id} is not in the trace")
            elif order.written is None or order.written >= order.answered:
                wrong.append(f"{durability}: {request.id} was answered before its record was written")
            elif durability == "disk" and (order.flushed is None or order.flushed >= order.answered):
                wrong.append(f"disk: {request.id} was answered before its record was flushed")
        broken += few(wrong)
        counts.append(f"{durability}: {len(answered) - len(wrong)} of {len(answered)} in order")
    return Finding("; ".join(counts), broken)


def calls_in(lines: Iterable[str]) -> Iterator[Call]:
    """Whole calls of a trace by `strace -f -ttt -yy`, in the order of their ends; those that were interrupted are put together."""
    begun: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(lines):
        found = _LINE.match(line)
        if found is None:
            continue
        pid, text = found.groups()
        if text.endswith("<unfinished ...>"):
            begun[pid] = text.removesuffix("<unfinished ...>"), number
            continue
        began = number
        resumed = _RESUMED.match(text)
        if resumed is not None:
            head, began = begun.pop(pid, ("", number))
            text = head + resumed[2]
        call, result = _CALL.match(text), _RESULT.search(text, max(0, len(text) - 200))
        if call is not None and result is not None:
            yield Call(call[1], call[2], text, int(result[1]), began, number)


def orders_of(calls: Iterable[Call], log: str) -> dict[str, Order]:
    """By request id: when its record was wholly written, when a flush of that segment that began after it had ended, when its 200 began.

    Args:
        calls: In the order of their ends.
        log: Folder of the prediction log.
    """
    taken = list(calls)
    flushes = [call for call in taken if call.name in ("fsync", "fdatasync") and call.on.startswith(log) and call.result == 0]
    written: dict[str, Call] = {}
    found: dict[str, Order] = {}
    for call in taken:
        if call.on.startswith(log) and "write" in call.name and call.result > 0:
            written |= dict.fromkeys(_LOGGED.findall(call.text), call)
    for call in taken:
        if "TCP" not in call.on or "HTTP/1.1 200 " not in call.text:
            continue
        for identifier in _ANSWERED.findall(call.text):
            record = written.get(identifier)
            after = [] if record is None else [each.ended for each in flushes if each.on == record.on and each.began > record.ended]
            found[identifier] = Order(None if record is None else record.ended, min(after, default=None), call.began)
    return found


F7 = Fault(
    "F7",
    "power loss",
    "The service answers under strace, with `durability=process` and with `durability=disk`.",
    "The record is written before the first byte of its 200, and for `disk` also flushed.",
    "every request of 3,000 each in order, by strace",
    run,
    check,
    needs=("strace",),
)
