"""The training flow on a small lab in LAB_HOME. Importing this changes modules: it is for processes of a Prefect worker only."""

import os
import time
from pathlib import Path
from types import SimpleNamespace

from held_training import HOLD, RUN, small_lab
from mlops_lab.bootstrap import Lab
from mlops_lab.pipelines import on_prefect, train
from mlops_lab.pipelines.deployed import on_prefect as deployed
from mlops_lab.pipelines.train import Made, Material


def _held(material: Material, lab: Lab) -> Made:
    (lab.home / RUN).write_text(str(os.getpid()), encoding="utf-8")
    while (lab.home / HOLD).exists():
        time.sleep(0.1)
    return train.make(material, lab)


train.MIN_ROWS = 500
on_prefect.make = _held  # type: ignore[attr-defined]
deployed.Lab = SimpleNamespace(of_environment=lambda: small_lab(Path(os.environ["LAB_HOME"])))  # type: ignore[assignment,attr-defined,misc]
train_held = deployed.train
