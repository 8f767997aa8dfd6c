"""After an interruption every answer is known, shipped or not, and none is shipped twice."""

from datetime import timedelta

from mlops_lab.data.prediction import PREDICTIONS
from mlops_lab.pipelines.ship import ship
from mlops_lab.replay.resume import answered_since
from parcel_builders import PER_DAY, week
from pipeline_builders import SmallLab, serve, served


def test_an_interrupted_replay_knows_what_a_canary_answered(lab: SmallLab) -> None:
    serve(lab, week(7), canary=2)
    before = answered_since(lab, week(7).start - timedelta(seconds=1))
    ship(lab)

    assert answered_since(lab.again(), week(7).start - timedelta(seconds=1)) == before
    assert len(before) == 7 * PER_DAY


def test_shipping_again_moves_nothing(lab: SmallLab) -> None:
    serve(lab, week(7))
    serve(lab, week(8), replica="replica-2")

    assert ship(lab) == 4 * 7 * PER_DAY
    assert ship(lab) == ship(lab.again()) == 0
    assert lab.tables.read(PREDICTIONS)["prediction_id"].is_unique


def test_an_interrupted_replay_knows_every_answer_whether_shipped_or_not(lab: SmallLab) -> None:
    served(lab, 7)
    serve(lab, week(8))
    known = answered_since(lab, week(7).start - timedelta(seconds=1))

    assert len(known) == 2 * 7 * PER_DAY
    assert known["2013-W07-0000"] == ("answer-2013-W07-0000", week(7).start)
    assert len(answered_since(lab, week(8).start - timedelta(seconds=1))) == 7 * PER_DAY
    assert answered_since(lab, week(9).start) == {}
