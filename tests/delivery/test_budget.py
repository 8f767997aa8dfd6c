"""What `make budget` complains of, by figures as it measures them; measuring itself wants a Docker and minutes."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "platform" / "deploy" / "compose" / "budget.py"


def over_budget(parts: dict[str, dict[str, object]]) -> list[str]:
    spec = importlib.util.spec_from_file_location("budget", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return list(module.over_budget(parts))


def a_profile(**figures: Any) -> dict[str, object]:
    cheap: dict[str, object] = {
        "healthy_s": 59.0,
        "cpu": {"mlflow": 0.005, "kafka": 0.084},
        "memory": {"mlflow": 371.0},
        "images_mb": {"-serving": 243.0, "": 1884.0},
    }
    return cheap | figures


def test_what_takes_little_is_not_complained_of() -> None:
    assert over_budget({"core": a_profile(), "all": a_profile()}) == []


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({"healthy_s": 121.0}, "core is healthy after 121 s of 120"),
        ({"memory": {"mlflow": 4000.0, "postgres": 100.0}}, "core takes 4100 MiB of 4096"),
        ({"images_mb": {"-serving": 251.0}}, "the image that answers has 251 MB of 250"),
        ({"cpu": {"mlflow": 0.11, "kafka": 0.09}}, "mlflow idles at 11.0% of a core in core"),
    ],
)
def test_what_takes_more_than_it_may_is_named(figures: dict[str, Any], said: str) -> None:
    assert over_budget({"core": a_profile(**figures)}) == [said]


def test_memory_and_time_are_limited_for_the_core_alone() -> None:
    """The others add to it what each needs."""
    assert over_budget({"all": a_profile(healthy_s=121.0, memory={"mlflow": 5000.0})}) == []
