"""Traffic in a running stack: it plays by itself, stands aside for a person at the host's own `lab`, and goes on where that one ended."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from stack.running import ROOT, Stack, until


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


@pytest.fixture
def traffic(stack: Stack) -> Iterator[str]:
    """Twenty thousand times as fast as time, a week in half a minute; gone afterwards, for the tests that want a quiet stack."""
    stack.lab("begin", timeout_s=300)
    fast = Stack(stack.project, {**stack.env, "STACK_SPEED": "20000x"}, stack.profiles, stack.files)
    fast.compose("up", "--detach", "--no-deps", "--wait", "traffic")
    yield "traffic"
    stack.compose("rm", "--stop", "--force", "traffic")


def asked(stack: Stack) -> int:
    """How many questions the journal has seen answered."""
    program = (
        "from mlops_lab.bootstrap import Lab; from mlops_lab.replay.journal import Journal; "
        "lab = Lab.of_environment(); print(Journal(lab.home / 'replay.db').tally('predict').rows)"
    )
    return int(stack.python(program))


def test_the_host_asks_the_stack_and_hears_the_commands_own_exit_code(stack: Stack) -> None:
    host = Host(stack)

    parts = {part["name"]: part["trouble"] for part in host.said("status")["parts"]}
    assert {"events", "features", "database", "tables", "mlflow", "prefect", "inference", "watcher"} <= set(parts)
    refused = host.lab("break", "concept-shft")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "did you mean 'concept-shift'?" in refused.stderr


def test_traffic_plays_stands_aside_for_a_person_and_goes_on(stack: Stack, traffic: str) -> None:
    before = asked(stack)
    until(lambda: asked(stack), lambda now: now > before, 240, "nothing was asked")

    played = Host(stack).said("replay")["weeks"]

    assert [week["failed"] for week in played] == [0]
    assert "asked for its turn" in stack.compose("logs", "--no-color", traffic)
    after = asked(stack)
    until(lambda: asked(stack), lambda now: now > after, 240, "traffic did not go on")


def test_traffic_outlives_a_service_that_is_restarted(stack: Stack, traffic: str) -> None:
    stack.compose("restart", "inference")
    stack.wait_whole()
    before = asked(stack)

    until(lambda: asked(stack), lambda now: now > before, 240, "traffic did not go on")

    assert stack.state(traffic)["RestartCount"] == 0
