"""A home with a champion, a version that the judge was for, and one that the judge was against."""

from pathlib import Path

import pytest

from guard_builders import AT, GuardedLab
from mlops_lab.bootstrap.identities import PLATFORM
from pipeline_builders import SmallLab, a_training, copied, training_flow, turned_round


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> SmallLab:
    """Version 1 is champion; the judge was for version 2, and against version 3."""
    lab = turned_round(tmp_path_factory.mktemp("guard") / "home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlops_lab.pipelines.train.MIN_ROWS", 500)
        training_flow(a_training(AT, "spoilt", flip_share=0.5), lab)
        lab.ledger.record_judgement(3, {"outcome": "keep", "because": "it is worse", "champion": 1}, AT, PLATFORM)
        lab.ledger.refuse(3, "it is worse", AT, PLATFORM)
    return lab


@pytest.fixture
def lab(template: SmallLab, tmp_path: Path) -> GuardedLab:
    home = copied(template, tmp_path / "home").home
    return GuardedLab(home, template.catalog.candidates)
