"""What the images themselves say of the files they are given. The stack runs the same ones, so no other version decides."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "platform" / "deploy" / "observability"
PINS = dict(re.findall(r"^(\w+_IMAGE)=(\S+)$", (ROOT / "versions.env").read_text(), re.MULTILINE))


def checked(image: str, program: str, *args: str) -> subprocess.CompletedProcess[str]:
    mounts = ["--volume", f"{FOLDER}:/etc/prometheus:ro", "--volume", f"{FOLDER}:/observability:ro"]
    command = ["docker", "run", "--rm", "--network", "none", "--entrypoint", program, *mounts, PINS[image], *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("image", "program", "args"),
    [
        ("PROMETHEUS_IMAGE", "promtool", ("check", "config", "/etc/prometheus/prometheus.yml")),
        ("PROMETHEUS_IMAGE", "promtool", ("test", "rules", "/observability/rules/tests/alerts.yml")),
        ("ALERTMANAGER_IMAGE", "amtool", ("check-config", "/observability/alertmanager.yml")),
    ],
)
def test_prometheus_and_alertmanager_take_their_files(image: str, program: str, args: tuple[str, ...]) -> None:
    done = checked(image, program, *args)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("profiles", ["core", "streaming", "observability", "all"])
def test_the_compose_files_are_what_the_specification_wants(profiles: str) -> None:
    command = ["docker", "compose", "--profile", profiles, "config", "--quiet"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stderr) == (0, "")
