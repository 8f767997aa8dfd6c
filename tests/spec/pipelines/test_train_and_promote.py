"""Training, judgement and promotion have the effect of once, and only who won against the champion takes its place."""

import numpy as np
import pandas as pd
import pytest

from mlops_lab.bootstrap.identities import APPROVER, OPERATOR
from mlops_lab.errors import LostTheRace, PromotionRefused
from mlops_lab.governance.approval import read_token
from mlops_lab.pipelines import train
from mlops_lab.pipelines.judge import judge_version
from mlops_lab.pipelines.promote import project_alias, promote
from mlops_lab.pipelines.train import gather
from mlops_lab.registry.version import Role, State
from mlops_lab.scoring.store import DirectoryStore
from parcel_builders import week
from pipeline_builders import SmallLab, a_training, served, training_flow, work

AT = week(11).start


def test_a_training_twice_gives_one_version_and_the_same_digests(lab: SmallLab) -> None:
    order = a_training(week(7).start)
    first = lab.ledger.version(1)
    again = train.train(order, lab)

    assert again == first
    assert len(lab.ledger.versions()) == 1


def test_rows_that_a_model_was_trained_on_are_not_held_against_it(lab: SmallLab) -> None:
    served(lab, 7, 8)
    material = gather(a_training(week(9).start), lab)

    assert material.trained_until == week(7).start
    assert set(material.training.keys).isdisjoint(material.held_out.keys)
    assert material.training.moments.max() < np.datetime64("2013-02-11")
    assert material.held_out.moments.min() >= np.datetime64("2013-02-11")


def test_a_bad_challenger_is_refused_with_its_evidence_kept(lab: SmallLab) -> None:
    served(lab, 7, 8)
    judgement, version = training_flow(a_training(week(9).start, "drill", flip_share=0.5), lab)
    record = lab.ledger.judgement(version.number)

    assert judgement.outcome == "keep"
    assert lab.ledger.state(version.number) == State.REFUSED
    assert record is not None
    evidence = pd.read_parquet(lab.home / record["evidence"]["file"])
    assert len(evidence) == record["evidence"]["rows"] > 800
    assert evidence[["champion", "challenger"]].notna().all(axis=None)
    with pytest.raises(PromotionRefused):
        promote(version.number, week(9).start, OPERATOR, lab)


def test_what_was_judged_as_of_a_moment_stands(lab: SmallLab) -> None:
    version = lab.ledger.version(1)
    first = lab.ledger.judgement(1)
    judged = judge_version(version, week(7).start, lab)

    assert judged.outcome == "promote"
    assert lab.ledger.judgement(1) == first
    assert len(lab.ledger.facts("judgement")) == 1


def test_a_promotion_that_another_one_overtook_loses_the_race(lab: SmallLab, monkeypatch: pytest.MonkeyPatch) -> None:
    served(lab, 7, 8, turned=True)
    versions = [training_flow(a_training(week(9).start, f"drill-{i}"), lab)[1].number for i in range(2)]
    other, seen = lab.again(), lab.ledger.current(Role.CHAMPION)
    promote(versions[1], week(9).start, OPERATOR, other, kind="override", why="first")
    monkeypatch.setattr(lab.ledger, "current", lambda role: seen)

    with pytest.raises(LostTheRace, match=str(versions[1])):
        promote(versions[0], week(9).start, OPERATOR, lab, kind="override", why="too late")
    assert other.ledger.champion().version == versions[1]
    assert len(lab.ledger.assignments()) == 2


def test_a_judgement_against_another_champion_promotes_nothing(lab: SmallLab) -> None:
    """Better than version 1 says nothing about a version that took the traffic since."""
    served(lab, 7, 8, 9, 10, turned=True)
    judgement, better = training_flow(a_training(AT, "curiosity"), lab)
    lab.approvals.approve(better.number, read_token(lab.keys / f"{APPROVER}.token"), "better than version 1", AT)
    other = training_flow(a_training(AT, "other"), lab)[1]
    promote(other.number, AT, OPERATOR, lab, kind="override", why="came first")

    assert judgement.outcome == "promote"
    with pytest.raises(PromotionRefused, match=f"against version 1, but the champion is version {other.number}"):
        promote(better.number, AT, OPERATOR, lab)
    assert lab.ledger.champion().version == other.number


def test_promoting_the_champion_again_changes_nothing(lab: SmallLab) -> None:
    before = lab.ledger.champion()

    assert promote(1, week(9).start, OPERATOR, lab) == before
    assert lab.ledger.assignments() == [before]


def test_the_alias_follows_the_ledger_and_is_repaired(lab: SmallLab) -> None:
    assert lab.catalog.alias() is None
    work(lab)
    assert lab.catalog.alias() == 1
    lab.catalog.project_alias(None)

    assert project_alias(lab) == lab.catalog.alias() == 1
    assert lab.catalog.tags(1)["state"] == "serving"


def test_packages_are_published_under_their_digest(lab: SmallLab) -> None:
    version = lab.ledger.version(1)
    package = DirectoryStore(lab.home / "packages").get(version.scorer_sha256)

    assert package == lab.catalog.package(1)
