"""Traffic in a running stack: it plays by itself, stands aside for a person at the host's own `lab`, and goes on where that one ended."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from stack.running import ROOT, Stack, until

PARTS = {"events", "features", "database", "tables", "mlflow", "prefect", "inference", "watcher"}
ANSWERED = """
from mlops_lab.bootstrap import Lab
from mlops_lab.replay.journal import Journal
print(len(Journal(Lab.of_environment().home / "replay.db").ids("predict")))
"""
DONE = """
import json
from mlops_lab.bootstrap import Lab
from mlops_lab.errors import BusUnreachable
from mlops_lab.pipelines.worker import settled
lab = Lab.of_environment()
try:
    print(json.dumps({"settled": settled(lab), "entries": len(lab.trail.entries())}))
except BusUnreachable as error:
    print(json.dumps({"settled": False, "entries": str(error)}))
"""
IDLE_ROUND_S = 10.0
"""Within it the watcher has looked once for what is to be done when nobody asks for anything; it does so every four seconds."""


class Host:
    """The host of the stack: `lab` with LAB_PROFILE=compose."""

    def __init__(self, stack: Stack) -> None:
        self.env = dict(os.environ) | dict(stack.env) | {"LAB_PROFILE": "compose", "PYTHONPATH": str(ROOT / "platform")}
        self.env |= {"COMPOSE_PROJECT_NAME": stack.project, "COMPOSE_PROFILES": stack.profiles, "COMPOSE_FILE": ":".join(stack.files)}

    def lab(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mlops_lab.cli.main", *words]
        return subprocess.run(
            command, cwd=ROOT, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False
        )

    def said(self, *words: str) -> Any:
        done = self.lab(*words, "--json")
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout)


@pytest.fixture(scope="module", autouse=True)
def champion(stack: Stack) -> None:
    """Without one the service is not ready, and there is nobody to answer."""
    stack.lab("begin", timeout_s=600)


@pytest.fixture
def traffic(stack: Stack) -> Iterator[str]:
    """Twenty thousand times as fast as time, a week in half a minute. Afterwards it is gone and what followed from it is done: other tests
    want a quiet stack."""
    fast = Stack(stack.project, {**stack.env, "STACK_SPEED": "20000x"}, stack.profiles, stack.files)
    try:
        fast.compose("up", "--detach", "--no-deps", "--wait", "traffic")
        yield "traffic"
    finally:
        stack.compose("rm", "--stop", "--force", "traffic")
        wait_quiet(stack)


def wait_quiet(stack: Stack, timeout_s: float = 600) -> None:
    """Until nothing is left to do, and an idle round has found nothing more."""

    def twice() -> list[dict[str, Any]]:
        first = done(stack)
        time.sleep(IDLE_ROUND_S)
        return [first, done(stack)]

    until(twice, lambda looks: looks[0] == looks[1] and looks[0]["settled"], timeout_s, "work is left")


def done(stack: Stack) -> dict[str, Any]:
    """Whether everything is, and how long the audit trail is."""
    return dict(json.loads(stack.python(DONE).splitlines()[-1]))


def answered(stack: Stack) -> int:
    """How many questions were answered with a prediction, by the journal of who asked, which is written at the end of each week."""
    return int(stack.python(ANSWERED))


def troubles(host: Host) -> dict[str, str]:
    """Each part of the platform and what is wrong with it, which is nothing where it is well."""
    return {part["name"]: part["trouble"] for part in host.said("status")["parts"]}


def test_the_host_asks_the_stack_and_hears_the_commands_own_exit_code(stack: Stack) -> None:
    host = Host(stack)

    parts = until(lambda: troubles(host), lambda seen: not any(seen.values()), 60, "a part is in trouble")
    assert parts.keys() >= PARTS
    refused = host.lab("break", "concept-shft")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "did you mean 'concept-shift'?" in refused.stderr


def test_traffic_plays_stands_aside_for_a_person_and_goes_on(stack: Stack, traffic: str) -> None:
    before = answered(stack)
    until(lambda: answered(stack), lambda now: now > before, 240, "nothing was answered")

    played = Host(stack).said("replay")["weeks"]

    assert [week["failed"] for week in played] == [0]
    assert "asked for its turn" in stack.compose("logs", "--no-color", traffic)
    after = answered(stack)
    until(lambda: answered(stack), lambda now: now > after, 240, "traffic did not go on")


def test_traffic_outlives_a_service_that_is_restarted(stack: Stack, traffic: str) -> None:
    stack.compose("restart", "inference")
    stack.wait_whole()
    before = answered(stack)

    until(lambda: answered(stack), lambda now: now > before, 240, "traffic did not go on")

    assert stack.state(traffic)["RestartCount"] == 0
