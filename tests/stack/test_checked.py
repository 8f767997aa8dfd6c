"""What the images themselves say of the files they are given. The stack runs the same ones, so no other version decides."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PINS = dict(re.findall(r"^(\w+_IMAGE)=(\S+)$", (ROOT / "versions.env").read_text(), re.MULTILINE))
TOOLS = {"promtool": "PROMETHEUS_IMAGE", "amtool": "ALERTMANAGER_IMAGE"}


def test_prometheus_and_alertmanager_take_their_files(tmp_path: Path) -> None:
    """What `make lint-stack` asks of tools on the PATH: configuration, rules with their tests, queries of dashboards, routes of alerts."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for name, image in TOOLS.items():
        mounts = f"--volume {ROOT}:{ROOT}:ro --volume {scratch}:{scratch}:ro --workdir"
        run = f'exec docker run --rm --network none --user "$(id -u)" {mounts} "$PWD" --entrypoint {name} {PINS[image]} "$@"'
        (tmp_path / name).write_text(f"#!/bin/sh\n{run}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    tools = {name.upper(): str(tmp_path / name) for name in TOOLS}
    env = dict(os.environ) | tools | {"PYTHON": sys.executable, "TMPDIR": str(scratch)}

    done = subprocess.run(
        ["bash", "platform/deploy/observability/lint.sh"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=240, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


@pytest.mark.parametrize("profiles", ["core", "streaming", "observability", "traces", "all"])
def test_the_compose_files_are_what_the_specification_wants(profiles: str) -> None:
    command = ["docker", "compose", "--profile", profiles, "config", "--quiet"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stderr) == (0, "")
