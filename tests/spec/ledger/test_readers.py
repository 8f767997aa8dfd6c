"""Who reads the ledger from elsewhere: the same truth, at one moment, without waiting for who writes."""

import shutil
from pathlib import Path

import pytest

from ledger_builders import AT, MODEL, a_ledger, approved, promote, try_out
from mlops_lab.bootstrap.followed import LedgerOfHome
from mlops_lab.errors import RegistryUnreachable
from mlops_lab.events.on_sql import writing
from mlops_lab.registry import Role, Standing
from mlops_lab.registry.on_sql import SqlLedger


def test_what_a_replica_has_to_know_is_read_at_one_moment_and_only_when_it_changed(
    ledger: SqlLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ledger.standing() == Standing({}, {})
    approved(ledger, 1, 2)
    promote(ledger, 1)
    canary = try_out(ledger, Role.CANARY, 2)
    standing = ledger.standing()

    assert standing == Standing({Role.CHAMPION: ledger.champion(), Role.CANARY: canary}, {1: f"{1:064x}", 2: f"{2:064x}"})
    assert standing.earlier == ()
    monkeypatch.setattr(ledger, "_standing", lambda connection: pytest.fail("nothing changed"))
    assert ledger.standing() is standing
    monkeypatch.undo()
    a_ledger(tmp_path).bar(2, "a complaint", AT, "ann")  # another process
    assert ledger.standing().barred == {2}
    assert ledger.standing().lines[Role.CANARY].version is None
    approved(ledger, 3)
    promote(ledger, 3)
    assert [(line.version, line.id) for line in ledger.standing().earlier] == [(1, 1)]
    assert ledger.standing().digests == {1: f"{1:064x}", 3: f"{3:064x}"}


def test_a_ledger_that_was_written_in_one_process_is_read_in_another(tmp_path: Path) -> None:
    approved(a_ledger(tmp_path), 1)
    promote(a_ledger(tmp_path), 1)

    assert a_ledger(tmp_path).champion().version == 1


def test_who_reads_does_not_wait_for_who_writes(ledger: SqlLedger, tmp_path: Path) -> None:
    """A replica that starts while a long record is open learns at once what serves."""
    approved(ledger, 1)
    promote(ledger, 1)

    with writing(ledger._engine):
        assert a_ledger(tmp_path).champion().version == 1


def test_a_ledger_file_that_was_removed_is_down_and_one_that_was_put_back_is_followed(tmp_path: Path) -> None:
    """An open database lives on after its file was removed: what nobody else sees may not be followed for ever, and is not made anew."""
    home, other = tmp_path / "home", tmp_path / "other"
    for folder, versions in ((home, (1,)), (other, (1, 2))):
        folder.mkdir()
        ledger = a_ledger(folder)
        approved(ledger, *versions)
        for number in versions:
            promote(ledger, number)
        ledger.close()
    followed = LedgerOfHome(home, MODEL)
    assert followed.standing().lines[Role.CHAMPION].version == 1

    for path in home.glob("lab.db*"):
        path.unlink()
    with pytest.raises(RegistryUnreachable, match="No such file"):
        followed.standing()
    assert not (home / "lab.db").exists()
    shutil.copy(other / "lab.db", home / "lab.db")
    assert followed.standing().lines[Role.CHAMPION].version == 2
    newer = a_ledger(other)
    approved(newer, 3)
    promote(newer, 3)
    newer.close()
    for path in home.glob("lab.db-*"):
        path.unlink()
    (other / "lab.db").rename(home / "lab.db")  # without a look in between
    assert followed.standing().lines[Role.CHAMPION].version == 3
