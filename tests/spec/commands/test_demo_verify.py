"""`lab demo --verify`: a home is examined as it is."""

import pytest

from cli_builders import told
from mlops_lab.demo.stores import Stores
from pipeline_builders import SmallLab


def test_a_home_without_a_finished_demo_is_examined_all_the_same_with_what_its_features_were_worth(
    lab: SmallLab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = Stores(lab).predictions
    worth = ["absent", "stale", "stale", *["fresh"] * (len(answers) - 4), None]  # the last one is of an earlier release
    monkeypatch.setattr(Stores, "predictions", answers.assign(feature_state=worth))
    logs = lab.home / "logs"
    logs.mkdir(exist_ok=True)
    (logs / "inference.log").write_text('{"event": "serving.bus_lost"}\n{"event": "serving.bus_found"}\n{"event": "serving.bus_lost"}\n')
    (logs / "inference-2.log").write_text('{"event": "serving.bus_lost"}\n')

    shown = told(capsys, "demo", "--verify", code=40)

    assert "6 A bad challenger is refused, and a degraded one that got past is rolled back NO" in shown
    assert "gain over never retraining none" in shown
    assert f"answers by what features were worth {len(answers) - 4:,} fresh, 2 stale, 1 absent" in shown
    assert "times a replica lost the event bus 3" in shown
