"""What the Prefect server of a stack has on record."""

from typing import Any

from stack.running import Stack, asked


def skill_lost(stack: Stack) -> list[dict[str, Any]]:
    """The events by which the server was told that skill was lost."""
    return _events(stack, "mlops-lab.skill.lost")


def actions_executed(stack: Stack) -> list[dict[str, Any]]:
    """The events by which it says what its automations did."""
    return _events(stack, "prefect.automation.action.executed")


def retrainings(stack: Stack) -> list[dict[str, Any]]:
    """Flow runs that were to train a challenger after a loss of skill."""
    runs: list[dict[str, Any]] = asked(_api(stack, "/flow_runs/filter"), {"limit": 200})
    return [run for run in runs if run["name"].startswith("retrain")]


def _events(stack: Stack, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = asked(_api(stack, "/events/filter"), {"filter": {"event": {"name": [name]}}, "limit": 50})["events"]
    return found


def _api(stack: Stack, path: str) -> str:
    return f"http://127.0.0.1:{stack.port('prefect')}/api{path}"
