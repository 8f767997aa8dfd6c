"""What each profile of the stack takes: `make budget` starts it in a project of its own, lets it idle, measures, and writes the page.

Needs Docker and nothing else. Memory is what the kernel counts for a container without its page cache, as `docker stats` shows it; CPU is
the time that its processes used within the minute, as a share of one core.
"""

import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "platform" / "docs" / "budget.md"
EMBEDDED = {"STACK_BUS": "embedded", "STACK_STORE": "process", "STACK_OTLP": "", "STACK_VIEWER": ""}
SERVERS = EMBEDDED | {"STACK_BUS": "kafka", "STACK_STORE": "redis"}
TRACED = {"STACK_OTLP": "http://otel-collector:4318"}
PROFILES = {"core": EMBEDDED, "streaming": SERVERS, "observability": EMBEDDED | TRACED, "all": SERVERS | TRACED}
PUBLISHED = ("INFERENCE", "MLFLOW", "PREFECT", "PROMETHEUS", "ALERTMANAGER", "GRAFANA")
PORTS = {f"{name}_PORT": str(24000 + number) for number, name in enumerate(PUBLISHED)}
PROJECT = "mlops-lab-budget"
IDLE_S, SETTLE_S = 60, 60
CORE_MIB, CORE_HEALTHY_S, SERVING_MB, IDLE_SHARE = 4096, 120.0, 250, 0.10
"""What may be taken: by the core, also in time from built images to healthy, by the image that answers, by each service that idles."""
QUIET = ("init-model", "traffic")
"""Not part of idling."""


def main() -> int:
    left_out = os.environ.get("LEAVE_OUT", "").split()
    parts = {name: measured(name, env, {*QUIET, *left_out}) for name, env in PROFILES.items() if name in (sys.argv[1:] or PROFILES)}
    if parts.keys() == PROFILES.keys():  # the page is of all of them
        PAGE.write_text(page(parts, left_out), encoding="utf-8")
        print(f"written: {PAGE.relative_to(ROOT)}")
    else:
        print(page(parts, left_out))
    broken = list(over_budget(parts))
    print(*broken, sep="\n")
    return 1 if broken else 0


def over_budget(parts: dict[str, dict[str, object]]) -> Iterator[str]:
    """What takes more than it may."""
    for profile, said in parts.items():
        cpu, memory, images, healthy_s = said["cpu"], said["memory"], said["images_mb"], said["healthy_s"]
        assert isinstance(cpu, dict)
        assert isinstance(memory, dict)
        assert isinstance(images, dict)
        assert isinstance(healthy_s, float)
        if profile == "core" and sum(memory.values()) > CORE_MIB:
            yield f"core takes {sum(memory.values()):.0f} MiB of {CORE_MIB}"
        if profile == "core" and healthy_s > CORE_HEALTHY_S:
            yield f"core is healthy after {healthy_s:.0f} s of {CORE_HEALTHY_S:.0f}"
        if images["-serving"] > SERVING_MB:
            yield f"the image that answers has {images['-serving']:.0f} MB of {SERVING_MB}"
        yield from (f"{name} idles at {share:.1%} of a core in {profile}" for name, share in cpu.items() if share > IDLE_SHARE)


def measured(profile: str, env: dict[str, str], left_out: set[str]) -> dict[str, object]:
    """One profile, from its start to its idling."""

    def compose(*args: str) -> str:
        said = dict(os.environ) | PORTS | env | {"COMPOSE_PROFILES": profile, "COMPOSE_PROJECT_NAME": PROJECT}
        done = subprocess.run(["docker", "compose", *args], cwd=ROOT, env=said, check=False, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"docker compose {' '.join(args)} left with {done.returncode}:\n{done.stderr[-2000:]}")
        return done.stdout

    names = sorted(set(compose("config", "--services").split()) - left_out)
    print(f"{profile}: building", flush=True)
    compose("build", "--quiet")
    try:
        began = time.monotonic()
        compose("up", "--detach", "--wait", *names)
        healthy_s = time.monotonic() - began
        print(f"{profile}: healthy after {healthy_s:.0f} s; idles for {SETTLE_S + IDLE_S} s", flush=True)
        time.sleep(SETTLE_S)
        containers = {name: compose("ps", "--quiet", name).strip() for name in names if not name.startswith("init-")}
        before = {name: cpu_s(identifier) for name, identifier in containers.items()}
        since = time.monotonic()
        time.sleep(IDLE_S)
        took = time.monotonic() - since
        cpu = {name: (cpu_s(identifier) - before[name]) / took for name, identifier in containers.items()}
        memory = {name: memory_mib(identifier) for name, identifier in containers.items()}
        volumes = json.loads(docker("system", "df", "-v", "--format", "{{json .Volumes}}"))
        disk = sum(mib(one["Size"]) for one in volumes if one["Name"].startswith(f"{PROJECT}_"))
        images = {
            name: int(docker("image", "inspect", f"{PROJECT}{name}:local", "--format", "{{.Size}}")) / 1e6 for name in ("", "-serving")
        }
    finally:
        compose("--profile", "*", "down", "--volumes", "--remove-orphans")
    return {"healthy_s": healthy_s, "cpu": cpu, "memory": memory, "volumes_mib": disk, "images_mb": images}


def docker(*args: str) -> str:
    return subprocess.run(["docker", *args], check=True, capture_output=True, text=True).stdout.strip()


def cpu_s(container: str) -> float:
    """CPU time that a container has used so far, in seconds, by the kernel's books."""
    for path in Path("/sys/fs/cgroup").glob(f"**/*{container}*/cpu.stat"):
        found = re.search(r"^usage_usec (\d+)", path.read_text(), re.MULTILINE)
        if found:
            return int(found[1]) / 1e6
    for path in Path("/sys/fs/cgroup").glob(f"cpu*/**/*{container}*/cpuacct.usage"):
        return int(path.read_text()) / 1e9
    raise SystemExit(f"no CPU time of {container} in /sys/fs/cgroup")


def memory_mib(container: str) -> float:
    return mib(docker("stats", "--no-stream", "--format", "{{.MemUsage}}", container).split("/")[0].strip())


def mib(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)\s*([kKMGT]?i?B)", text).groups()  # type: ignore[union-attr]
    factor = {"B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}[unit]
    return float(number) * factor / 2**20


def page(parts: dict[str, dict[str, object]], left_out: list[str]) -> str:
    """The page."""
    load = os.getloadavg()[0]
    lines = [
        "# What the stack takes",
        "",
        f"Measured by `make budget` on {datetime.now(UTC):%Y-%m-%d}: {os.cpu_count()} cores, {platform.machine()}, load {load:.1f}. "
        "Idle, without traffic,"
        f" over {IDLE_S} s." + (f" Without {', '.join(left_out)}, which was not started." if left_out else ""),
        "",
        "| profile | from built images to healthy | memory | CPU, all together | volumes |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, said in parts.items():
        cpu, memory = said["cpu"], said["memory"]
        assert isinstance(cpu, dict)
        assert isinstance(memory, dict)
        total, share = sum(memory.values()) / 1024, sum(cpu.values())
        lines.append(f"| `{name}` | {said['healthy_s']:.0f} s | {total:.2f} GiB | {share:.1%} of a core | {said['volumes_mib']:.0f} MiB |")
    last = list(parts.values())[-1]
    lines += ["", f"One by one, in `{list(parts)[-1]}`:", "", "| service | memory | CPU |", "| --- | --- | --- |"]
    cpu, memory = last["cpu"], last["memory"]
    assert isinstance(cpu, dict)
    assert isinstance(memory, dict)
    lines += [f"| `{name}` | {memory[name]:.0f} MiB | {cpu[name]:.1%} of a core |" for name in sorted(cpu)]
    images = last["images_mb"]
    assert isinstance(images, dict)
    serving, whole = images["-serving"], images[""]
    lines += [
        "",
        f"Images: {serving:.0f} MB for what answers (no MLflow, scikit-learn, pandas in it), {whole:.0f} MB for everything else.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
