"""Who may be a canary, with which share."""

import pytest

from guard_builders import AT, GuardedLab, canary
from mlops_lab.bootstrap.identities import OPERATOR, PLATFORM
from mlops_lab.errors import PromotionRefused, UnknownVersion, UsageError
from mlops_lab.pipelines.canary import begin, end, newest_challenger, running


def test_the_newest_version_that_the_judge_was_for_is_tried(lab: GuardedLab) -> None:
    assert newest_challenger(lab) == 2
    lab.ledger.refuse(2, "not this one", AT, PLATFORM)
    with pytest.raises(PromotionRefused):
        newest_challenger(lab)
    assert newest_challenger(lab, judged=False) == 3  # for who may overrule that

    for number in (2, 3):
        lab.ledger.bar(number, "bad", AT, PLATFORM)

    with pytest.raises(PromotionRefused, match="no version beside the champion"):
        newest_challenger(lab, judged=False)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.001, 0.0005, float("nan")])
def test_a_share_is_from_a_tenth_of_a_percent_to_all_of_them(lab: GuardedLab, share: float) -> None:
    with pytest.raises(UsageError, match="no share for a canary"):
        begin(2, share, AT, OPERATOR, lab)
    assert canary(lab) is None


def test_only_who_may_win_is_tried(lab: GuardedLab) -> None:
    for version, error, words in (
        (99, UnknownVersion, "no version 99"),
        (3, PromotionRefused, "judge was not for version 3"),
    ):
        with pytest.raises(error, match=words):
            begin(version, 0.1, AT, OPERATOR, lab)
    with pytest.raises(PromotionRefused, match="is the champion"):
        begin(1, 0.1, AT, OPERATOR, lab, why="to see it", override=True)
    assert begin(3, 0.1, AT, OPERATOR, lab, why="to see it", override=True).kind == "override"
    with pytest.raises(UsageError, match="Version 3 is the canary already"):
        begin(2, 0.1, AT, OPERATOR, lab)
    end(AT, OPERATOR, "seen it", lab)
    lab.ledger.bar(2, "bad", AT, PLATFORM)
    with pytest.raises(PromotionRefused, match="is barred"):
        begin(2, 0.1, AT, OPERATOR, lab, why="nevertheless", override=True)
    with pytest.raises(UsageError, match="No canary runs"):
        running(lab)
