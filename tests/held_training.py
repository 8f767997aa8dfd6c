"""A small lab whose trainings are runs of a Prefect server, and how a test holds one in its middle. What the runs do is in held_flow.py."""

from pathlib import Path

from mlops_lab.clock import WallClock
from mlops_lab.settings import OrchestrationSettings
from pipeline_builders import SmallLab

HOLD, RUN = "hold", "run.pid"
"""Files in the home: while the first is there a run goes no further; the second says which process it is."""


def small_lab(home: Path) -> SmallLab:
    """In this time, as the server's own clock is."""
    lab = SmallLab(home)
    lab.settings = lab.settings.model_copy(update={"orchestration": OrchestrationSettings(mode="deployments")})
    lab.clock = WallClock()
    return lab
