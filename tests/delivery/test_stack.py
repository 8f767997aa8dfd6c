"""The stack as files: what can be read off them without a Docker. What only a running one shows is in tests/stack."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlops_lab.bootstrap.running import SILENT_S

ROOT = Path(__file__).resolve().parents[2]
STACK = ROOT / "platform" / "deploy" / "compose" / "stack.yaml"
SPEC: dict[str, Any] = yaml.safe_load(STACK.read_text())
SERVICES: dict[str, dict[str, Any]] = SPEC["services"]
PINS = dict(line.split("=", 1) for line in (ROOT / "versions.env").read_text().splitlines() if line and not line.startswith("#"))
JOBS = {name for name in SERVICES if name.startswith("init-")}
OURS = {"${COMPOSE_PROJECT_NAME}:local", "${COMPOSE_PROJECT_NAME}-serving:local"}


def each(names: "set[str] | dict[str, Any]") -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", sorted(names))


def test_every_image_is_ours_or_pinned_once() -> None:
    named = {service["image"] for service in SERVICES.values()} - OURS
    variables = {match[1] for image in named if (match := re.fullmatch(r"\$\{(\w+_IMAGE)\}", image))}

    assert len(variables) == len(named), f"an image that is not a variable of versions.env: {sorted(named)}"
    assert variables | {"PYTHON_IMAGE"} == set(PINS)


def test_a_pin_is_an_official_image_with_a_version() -> None:
    for name, image in PINS.items():
        repository, _, tag = image.partition(":")
        assert re.search(r"\d", tag), f"{name} has no version"
        assert "latest" not in tag, f"{name} moves"
        assert not repository.startswith(("bitnami", "minio")), f"{name} is no longer kept free"


@each(SERVICES)
def test_a_container_has_no_more_rights_than_it_needs(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service.get("cap_add", [])) <= ({"CHOWN", "FOWNER", "DAC_OVERRIDE"} if name == "init-secrets" else set())
    assert service["logging"]["options"]["max-size"]
    assert "privileged" not in service
    assert not any("docker.sock" in str(volume) for volume in service.get("volumes", []))


@each(SERVICES.keys() - JOBS)
def test_what_runs_for_long_is_limited_healthy_and_comes_back(name: str) -> None:
    service = SERVICES[name]

    assert service["mem_limit"]
    assert service["restart"] == "unless-stopped"
    if name not in WITHOUT_A_LOOK:
        assert service.get("healthcheck", {}).get("test") or service["image"] == "${COMPOSE_PROJECT_NAME}-serving:local"


WITHOUT_A_LOOK = {
    "workbench",  # does nothing by itself
    "otel-collector",  # its image holds one program and no shell to ask it with
    "jaeger",  # the same
}


@each(JOBS)
def test_a_job_ends_and_is_not_repeated_by_itself(name: str) -> None:
    assert SERVICES[name]["restart"] == "no"
    assert "ports" not in SERVICES[name]


@each(SERVICES)
def test_what_is_published_is_published_to_this_machine_only(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert str(port).startswith("127.0.0.1:"), port


def test_clients_share_a_network_with_the_service_and_nothing_that_keeps_state() -> None:
    reachable = {name for name, service in SERVICES.items() if "clients" in service.get("networks", [])}

    assert "inference" in reachable
    assert reachable <= {"inference", "workbench", "traffic"}


def test_only_the_collector_may_talk_to_the_world() -> None:
    assert {name for name, service in SERVICES.items() if "outside" in service.get("networks", [])} == {"otel-collector"}


@each(SERVICES)
def test_no_secret_is_written_down(name: str) -> None:
    for key, value in (SERVICES[name].get("environment") or {}).items():
        if re.search(r"PASSWORD|SECRET|TOKEN|KEY", key):
            assert str(value).startswith("/run/lab/") or key.endswith(("_FILE", "_KEYS", "_TOKENS")), f"{key} holds a value"
        assert not re.search(r"://[^/\s]+:[^/@\s]+@", str(value)), f"{key} has a password in an address"


def test_a_worker_is_given_the_same_time_by_docker_and_by_who_asks_from_inside() -> None:
    of_the_stack = SILENT_S.keys() & SERVICES.keys()
    assert of_the_stack >= {"watcher", "features"}
    for name in of_the_stack:
        silent_s = SILENT_S[name]
        assert SERVICES[name]["healthcheck"]["test"][-1] == f"{silent_s:g}", name


@pytest.mark.parametrize(
    ("bus", "store", "code"), [("kafka", "redis", 0), ("embedded", "process", 2), ("kafka", "process", 2), ("embedded", "redis", 2)]
)
def test_streaming_beside_a_loop_that_would_not_use_it_is_refused(bus: str, store: str, code: int) -> None:
    """`docker compose --profile streaming up` alone sets neither."""
    job = SERVICES["init-streaming"]
    assert job["environment"] == {"STACK_BUS": "${STACK_BUS:-embedded}", "STACK_STORE": "${STACK_STORE:-process}"}
    script = ROOT / job["volumes"][0].partition(":")[0]
    env = {"PATH": os.environ["PATH"], "STACK_BUS": bus, "STACK_STORE": store}

    done = subprocess.run(["sh", script], env=env, capture_output=True, text=True, check=False)

    assert done.returncode == code
    assert ("make up PROFILE=streaming" in done.stderr) == (code != 0)


@each({name for name, service in SERVICES.items() if "streaming" in service.get("profiles", [])} - JOBS)
def test_nothing_of_streaming_starts_before_the_loop_uses_it(name: str) -> None:
    assert SERVICES[name]["depends_on"]["init-streaming"] == {"condition": "service_completed_successfully"}
    assert SERVICES["init-streaming"]["profiles"] == SERVICES[name]["profiles"]


def test_nothing_waits_by_sleeping() -> None:
    for name, service in SERVICES.items():
        said = f"{service.get('entrypoint', '')} {service.get('command', '')}"
        assert "sleep" not in said or name == "workbench", name


@pytest.mark.parametrize(("age_s", "healthy"), [(0, True), (40, False), (None, False)], ids=["fresh", "silent", "never touched"])
def test_a_sign_of_life_is_a_file_that_was_touched_lately(tmp_path: Path, age_s: int | None, healthy: bool) -> None:
    assert signs_of_life(tmp_path, age_s, within_s=30) is healthy


def test_the_sign_of_the_container_before_is_none(tmp_path: Path) -> None:
    """It lies on a volume; whoever starts anew has not shown yet that it works."""
    running_s = int(subprocess.run(["ps", "-o", "etimes=", "-p", "1"], capture_output=True, text=True, check=True).stdout)

    assert not signs_of_life(tmp_path, running_s + 60, within_s=running_s + 1000)


def signs_of_life(folder: Path, age_s: int | None, within_s: int) -> bool:
    sign = folder / "watcher.ready"
    if age_s is not None:
        sign.touch()
        os.utime(sign, (time.time() - age_s,) * 2)
    script = ROOT / "platform" / "deploy" / "docker" / "fresh"
    return subprocess.run(["sh", str(script), str(sign), str(within_s)], check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("status", "model", "log", "healthy"),
    [
        (200, "ok", "ok", True),
        (503, "none", "ok", True),
        (503, "ok", "down", False),
        (503, "none", "down", False),
        (500, "ok", "ok", False),
    ],
    ids=["ready", "no model yet", "the log cannot be written", "neither", "broken"],
)
def test_the_service_is_healthy_while_it_can_answer_and_log(status: int, model: str, log: str, healthy: bool) -> None:
    """Before there is a first model, whoever brings it must not wait for the service."""
    told = {"dependencies": {"model": {"state": model}, "log": {"state": log}, "bus": {"state": "down"}}}

    assert (found_ready(status, json.dumps(told)) == "") is healthy


def test_an_answer_that_is_no_readiness_is_not_healthy() -> None:
    assert "503" not in found_ready(503, "<html>")
    assert found_ready(200, "[]")


def found_ready(status: int, body: str) -> str:
    """What the health check says of a service that answers so; nothing where it is content."""

    class Service(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Service) as service:
        thread = threading.Thread(target=service.handle_request)
        thread.start()
        script = ROOT / "platform" / "deploy" / "docker" / "ready"
        done = subprocess.run(
            [sys.executable, "-SIE", str(script), f"127.0.0.1:{service.server_port}"], check=False, capture_output=True, text=True
        )
        thread.join()
    assert bool(done.returncode) == bool(done.stderr)
    return done.stderr
