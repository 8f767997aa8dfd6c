"""Damage in a log is put aside, recorded and read past."""

import pytest

from mlops_lab.errors import LogDamaged
from mlops_lab.pipelines.backlog import backlog
from mlops_lab.pipelines.ship import ship
from mlops_lab.serving.prediction_log import read_frames
from mlops_lab.serving.segments import segment_path
from pipeline_builders import SmallLab
from shipping_builders import answers, effects, incidents, write, write_mixed


@pytest.mark.parametrize("where", ["middle", "beginning"])
@pytest.mark.usefixtures("nothing_kept")
def test_damage_is_put_aside_recorded_and_read_past(lab: SmallLab, where: str) -> None:
    """Nothing is lost silently: the record says how many bytes could not be read, and what is readable behind them is shipped."""
    folder = write_mixed(lab, range(10))
    written = {row["prediction_id"]: p for p, frame in read_frames(folder) if frame["kind"] == "predictions" for row in frame["rows"]}
    path = segment_path(folder, 2)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if where == "middle" else 0] ^= 1
    path.write_bytes(content)
    with pytest.raises(LogDamaged):
        list(read_frames(folder))

    for each in (lab, lab.again()):
        ship(each)

    (fact,) = incidents(lab, "log_damaged")
    begin, size, kept = fact.body["offset"], fact.body["unreadable_bytes"], folder / fact.body["kept_as"]
    assert begin == 0 if where == "beginning" else 8 < begin <= len(content) // 2
    assert size == len(content) - begin
    assert kept.read_bytes() == bytes(content[begin:])
    assert f"{size} bytes of {path.name} could not be read" in next(e.reason for e in lab.trail.entries() if e.subject == fact.subject)
    assert not path.exists()
    assert effects(lab).predictions == sorted(one for one, p in written.items() if p.segment != 2 or p.offset <= begin)
    assert set(written) - set(effects(lab).predictions)
    assert backlog(lab)[0].aside == 1


def test_a_record_that_is_no_json_costs_only_itself(lab: SmallLab) -> None:
    from mlops_lab.serving.segments import frame

    folder = write(lab.home, answers(1), segment_bytes=1_000_000)
    with segment_path(folder, 1).open("ab") as segment:
        segment.write(frame(b"{no json}"))
    write(lab.home, answers(2), segment_bytes=1_000_000)

    ship(lab)

    assert effects(lab).predictions == ["p1", "p2"]
    assert [fact.body["unreadable_bytes"] for fact in incidents(lab, "log_damaged")] == [17]


def test_the_tail_that_a_replica_cut_off_is_recorded(lab: SmallLab) -> None:
    folder = write(lab.home, answers(1))
    with segment_path(folder, 1).open("ab") as segment:
        segment.write(b"\x10\0\0\0half")
    write(lab.home, answers(2))
    for each in (lab, lab.again()):
        ship(each)

    assert [fact.body["cut_bytes"] for fact in incidents(lab, "tail_cut")] == [8]
    assert effects(lab).predictions == ["p1", "p2"]
