"""Nobody changes the record unseen."""

import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from audit_builders import a_trail, a_trail_of
from audit_tamperings import ENTRIES, TAMPERINGS, heads_of, rows
from mlops_lab.audit.on_sql import AUDIT, SqlAudit
from mlops_lab.events.on_sql import reading, writing


@dataclass(frozen=True)
class Intact:
    """What a home with twelve entries holds: the rows of its audit, and the file of the second place."""

    entries: list[dict[str, object]]
    heads: bytes

    def copied_to(self, home: Path) -> SqlAudit:
        (home / "second").mkdir(parents=True)
        (home / "second" / "heads.jsonl").write_bytes(self.heads)
        trail = a_trail(home)
        with writing(trail.engine) as connection:
            connection.execute(AUDIT.insert(), self.entries)
        return trail


@pytest.fixture
def intact(tmp_path: Path) -> Intact:
    home = tmp_path / "intact"
    trail = a_trail_of(home, ENTRIES)
    with reading(trail.engine) as connection:
        found = rows(connection)
    trail.engine.dispose()
    return Intact(found, (home / "second" / "heads.jsonl").read_bytes())


@pytest.mark.parametrize("batch", range(10))
def test_no_tampering_stays_unseen(intact: Intact, tmp_path: Path, batch: int) -> None:
    """Two hundred seeded edits, deletions, swaps, cuts, forgeries and rewrites: each is found, and the entry is named."""
    for seed in range(batch * 20, batch * 20 + 20):
        home = tmp_path / str(seed)
        trail = intact.copied_to(home)
        tamper = TAMPERINGS[seed % len(TAMPERINGS)]

        expected = tamper(home, trail, random.Random(seed))

        found = trail.verify()
        assert found is not None, f"seed {seed}: {tamper.__name__} of entry {expected} was not seen"
        assert found.seq == expected, f"seed {seed}: {tamper.__name__} of entry {expected} was seen as {found}"
        trail.engine.dispose()


def test_a_cut_tail_of_the_second_place_is_made_good_from_the_seals(tmp_path: Path) -> None:
    trail = a_trail_of(tmp_path, 5)
    path, lines = heads_of(tmp_path)
    path.write_bytes(b"".join(lines[:2]))

    assert trail.verify() is None
    assert path.read_bytes().splitlines(keepends=True) == lines
