"""The ledger on a PostgreSQL that is restarted, cut off, frozen and lost: one winner, one history, and no replica waits."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import inspect, text

from cutting_proxy import CuttingProxy
from mlops_lab.audit import HeadsFile
from mlops_lab.audit.on_sql import SqlAudit
from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.followed import LedgerOfServer, followed
from mlops_lab.bootstrap.founding import found
from mlops_lab.clock import WallClock
from mlops_lab.errors import RegistryUnreachable, SettingsWrong
from mlops_lab.events import CONTROL, Message, on_postgres
from mlops_lab.events.on_sql import open_engine, reading, writing
from mlops_lab.registry import ModelVersion, Role, Standing
from mlops_lab.registry.on_sql import SqlLedger
from mlops_lab.settings import Settings, StoreSettings
from postgres_cluster import Cluster

AT = datetime(2013, 4, 8, tzinfo=UTC)
MODEL = "flight-delay"
ROLES = Path(__file__).parents[2] / "platform" / "deploy" / "postgres" / "roles.sql"

# A process of its own: gives the traffic to the version that has it not, again and again, and says how each try went.
WRITER = """
import select, sys
from datetime import UTC, datetime
from pathlib import Path
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from mlops_lab.audit import HeadsFile
from mlops_lab.audit.on_sql import SqlAudit, open_engine
from mlops_lab.clock import WallClock
from mlops_lab.errors import LostTheRace, RegistryUnreachable
from mlops_lab.registry import Role
from mlops_lab.registry.on_sql import SqlLedger

home, address, me = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ledger = SqlLedger(SqlAudit(open_engine(address), HeadsFile(home / "heads.jsonl"), key, WallClock()), "flight-delay")
number = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    number += 1
    try:
        now = ledger.current(Role.CHAMPION)
        at = datetime(2013, 4, 8, tzinfo=UTC)
        ledger.assign(Role.CHAMPION, 3 - now.version, replacing=now.id, kind="override", by=me, why=f"{me}-{number}", at=at)
        print("won", f"{me}-{number}", flush=True)
    except LostTheRace:
        print("lost", f"{me}-{number}", flush=True)
    except RegistryUnreachable:
        print("down", f"{me}-{number}", flush=True)
"""


def a_ledger(home: Path, address: str) -> SqlLedger:
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    return SqlLedger(SqlAudit(open_engine(address), HeadsFile(home / "heads.jsonl"), key, WallClock()), MODEL)


def with_champion(ledger: SqlLedger) -> None:
    for number in (1, 2):
        version = ModelVersion(MODEL, number, f"run-{number}", f"{number:064x}", "d" * 64, AT, WallClock().now(), "tom", "retrain")
        ledger.add_version(version, actor="trainer")
    ledger.assign(Role.CHAMPION, 1, replacing=None, kind="override", by="ann", why="the first", at=AT)


def champion(standing: Standing) -> int | None:
    return standing.lines[Role.CHAMPION].version


@pytest.fixture
def address(cluster: Cluster, tmp_path: Path) -> Iterator[str]:
    """A database of the test's own, on the server it may restart."""
    name = f"test_{tmp_path.name[-40:].replace('-', '_')}_{time.monotonic_ns()}"
    cluster.sql(f"CREATE DATABASE {name} OWNER lab")
    yield cluster.url_of("lab", "only-for-tests", name)
    cluster.sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def ledger(address: str, tmp_path: Path) -> Iterator[SqlLedger]:
    made = a_ledger(tmp_path, address)
    with_champion(made)
    yield made
    made.close()


# -- restarts and cuts -----------------------------------------------------------------------------------------------------------------


def test_two_writers_race_through_restarts_and_each_assignment_has_one_winner(
    cluster: Cluster, ledger: SqlLedger, address: str, tmp_path: Path
) -> None:
    """Restarted in order, crashed, and restarted again under load. What a writer heard of stands; what stands was somebody's."""
    command = [sys.executable, "-c", WRITER, str(tmp_path), address]
    writers = [subprocess.Popen([*command, f"writer-{n}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for n in (1, 2)]
    told: list[list[str]] = [[], []]
    for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGINT, None):
        for writer, lines in zip(writers, told, strict=True):
            assert writer.stdout is not None
            wins = 0
            while wins < 5:  # it is at work, again
                lines.append(writer.stdout.readline().strip())
                assert lines[-1], "the writer ended"
                wins += lines[-1].startswith("won")
        if how is not None:
            cluster.restart(how)
    for writer, lines in zip(writers, told, strict=True):
        assert writer.stdin is not None
        assert writer.stdout is not None
        writer.stdin.write("stop\n")
        writer.stdin.flush()
        with writer:  # waits, and closes its ends
            lines += writer.stdout.read().splitlines()
        assert writer.returncode == 0

    outcomes = {name: outcome for lines in told for outcome, name in (line.split() for line in lines)}
    line = [each for each in ledger.assignments() if each.by != "ann"]
    won = {name for name, outcome in outcomes.items() if outcome == "won"}
    assert {"won", "lost", "down"} <= set(outcomes.values())
    assert won <= {each.why for each in line}
    assert len({each.why for each in line}) == len(line)
    assert all(outcomes[each.why] in ("won", "down") for each in line)
    assert [each.replaces for each in ledger.assignments()] == [None, *(each.id for each in ledger.assignments()[:-1])]
    assert (ledger._trail.verify(), ledger.unaccounted()) == (None, [])


def decide(trail: SqlAudit, number: int) -> None:
    with trail.recording(actor="watch", action="WindowDecided", subject=str(number), reason="skill held", at=AT) as tx:
        tx.emit(CONTROL, Message("WindowDecided", AT, MODEL, {"number": number}, id=f"message-{number}"))


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[CuttingProxy]:
    between = CuttingProxy(cluster.port)
    yield between
    between.close()


@pytest.fixture
def trail(proxy: CuttingProxy, cluster: Cluster, address: str, tmp_path: Path) -> Iterator[SqlAudit]:
    """An audit trail whose database is reached over a network that can be cut."""
    key = Ed25519PrivateKey.generate()
    made = SqlAudit(open_engine(address.replace(str(cluster.port), str(proxy.port))), HeadsFile(tmp_path / "heads.jsonl"), key, WallClock())
    decide(made, 1)
    yield made
    made.engine.dispose()


@pytest.mark.parametrize("word", [b"INSERT INTO outbox", b"INSERT INTO audit_entry", b"COMMIT"])
def test_a_connection_cut_before_its_commit_leaves_nothing(trail: SqlAudit, proxy: CuttingProxy, word: bytes) -> None:
    proxy.cut_at(word, after=False)
    with pytest.raises(RegistryUnreachable):
        decide(trail, 2)

    assert (proxy.cuts, [entry.subject for entry in trail.entries()]) == (1, ["1"])
    decide(trail, 3)
    assert [entry.subject for entry in trail.entries()] == ["1", "3"]
    with reading(trail.engine) as connection:
        assert connection.execute(text("SELECT message_id FROM outbox ORDER BY position")).scalars().all() == ["message-1", "message-3"]
    assert trail.verify() is None


def test_a_commit_whose_receipt_was_lost_counts(trail: SqlAudit, proxy: CuttingProxy) -> None:
    """The server has it; who wrote it looks, instead of being told that nothing was written."""
    proxy.cut_at(b"COMMIT", after=True)
    decide(trail, 2)

    assert (proxy.cuts, [entry.subject for entry in trail.entries()]) == (1, ["1", "2"])
    assert trail.verify() is None


def test_who_stops_in_the_middle_of_a_record_keeps_others_waiting_and_not_for_ever(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the writers' lock is held, another gives up after its patience; the server ends a transaction that is silent for too long."""
    monkeypatch.setattr(on_postgres, "ABANDONED_S", 2)
    key = Ed25519PrivateKey.generate()
    stopped = SqlAudit(open_engine(address), HeadsFile(tmp_path / "heads.jsonl"), key, WallClock())
    hurried = SqlAudit(open_engine(address, 0.2), HeadsFile(tmp_path / "heads.jsonl"), key, WallClock())
    decide(stopped, 1)

    def stop_in_the_middle() -> None:
        with stopped.recording(actor="a", action="b", subject="held", reason="-", at=AT):
            with pytest.raises(RegistryUnreachable, match="lock"):
                decide(hurried, 2)
            patient = SqlAudit(open_engine(address), HeadsFile(tmp_path / "heads.jsonl"), key, WallClock())
            decide(patient, 3)
            patient.engine.dispose()

    with pytest.raises(RegistryUnreachable):
        stop_in_the_middle()
    assert [entry.subject for entry in stopped.entries()] == ["1", "3"]
    assert stopped.verify() is None
    for each in (stopped, hurried):
        each.engine.dispose()


# -- what follows it -------------------------------------------------------------------------------------------------------------------


def test_a_replica_finds_a_server_again_that_was_down_or_silent(cluster: Cluster, ledger: SqlLedger, address: str) -> None:
    """No look takes longer than its deadline, also where the server is there and says nothing; nothing has to be restarted here."""
    replica = LedgerOfServer(address, MODEL, 0.5)
    assert champion(replica.standing()) == 1

    cluster.end()
    with pytest.raises(RegistryUnreachable):
        replica.standing()
    cluster.start()
    assert champion(replica.standing()) == 1

    cluster.signal_all(signal.SIGSTOP)
    try:
        with pytest.raises(RegistryUnreachable, match="no answer within"):
            replica.standing()
        with pytest.raises(RegistryUnreachable, match="still hangs"):
            replica.standing()
    finally:
        cluster.signal_all(signal.SIGCONT)
    ledger.assign(Role.CHAMPION, 2, replacing=1, kind="override", by="ann", why="-", at=AT)
    while replica._aside.hangs:
        time.sleep(0.05)
    assert champion(replica.standing()) == 2
    replica.close()


def test_a_replica_makes_no_tables_and_says_that_they_are_missing(address: str, tmp_path: Path) -> None:
    replica = LedgerOfServer(address, MODEL, 2)
    with pytest.raises(RegistryUnreachable, match="no tables yet"):
        replica.standing()
    engine = open_engine(address, reads_only=True)
    with engine.connect() as connection:
        assert inspect(connection).get_table_names() == []
    engine.dispose()

    ledger = a_ledger(tmp_path, address)
    with_champion(ledger)
    assert champion(replica.standing()) == 1
    with ledger._engine.begin() as connection:
        connection.execute(text("DROP TABLE assignment"))
    with pytest.raises(RegistryUnreachable, match="tables are gone"):
        replica.standing()
    with pytest.raises(RegistryUnreachable, match="tables are gone"):
        ledger.assignments()
    assert ledger.assignments() == []  # who may write makes them again; the audit says what was in them
    assert "assignment/1 was recorded, but is not in the database any more." in ledger.unaccounted()
    replica.close()
    ledger.close()


# -- roles and settings ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def roles(cluster: Cluster, tmp_path: Path) -> Iterator[dict[str, Path]]:
    """The roles of the deployment in a database of their own, made twice, and the files with their passwords."""
    files = {"lab": cluster.put("owner-password", "o'wner\\1\n"), "lab_service": cluster.put("reader-password", 'read"er\n')}
    cluster.sql("CREATE DATABASE deployed")
    for _ in range(2):
        cluster.file(ROLES, "deployed", owner_password_file=str(files["lab"]), reader_password_file=str(files["lab_service"]))
    yield files
    cluster.sql("DROP DATABASE deployed WITH (FORCE)", "DROP ROLE lab_service", "ALTER ROLE lab PASSWORD 'only-for-tests'")


def test_the_ledger_is_on_a_server_by_settings_alone(cluster: Cluster, roles: dict[str, Path], tmp_path: Path) -> None:
    """The platform's role writes, the service's follows, and each password is in a file."""
    place = f"@127.0.0.1:{cluster.port}/deployed"
    lab = Lab(
        Settings(home=tmp_path / "home", stores=StoreSettings(database=f"postgresql://lab{place}", database_password_file=roles["lab"]))
    )
    assert not lab.has_begun
    found(lab)
    found(lab)
    assert lab.has_begun
    ledger = lab.ledger
    assert isinstance(ledger, SqlLedger)
    with_champion(ledger)
    assert not (lab.home / "lab.db").exists()

    said = StoreSettings(database=f"postgresql://lab_service{place}", database_password_file=roles["lab_service"])
    replica = followed(Settings(home=tmp_path / "elsewhere", stores=said), MODEL)
    assert isinstance(replica, LedgerOfServer)
    assert champion(replica.standing()) == 1
    assert (lab.trail.verify(), list(ledger.unaccounted())) == (None, [])
    replica.close()
    ledger.close()


def test_the_services_role_reads_and_no_more(cluster: Cluster, roles: dict[str, Path], tmp_path: Path) -> None:
    place = f"@127.0.0.1:{cluster.port}/deployed"
    owner = open_engine(f"postgresql://lab{place}", password_file=roles["lab"])
    reader = open_engine(f"postgresql://lab_service{place}", password_file=roles["lab_service"])
    with writing(owner):
        """The tables are there from now on."""
    with reading(reader) as connection:
        assert connection.execute(text("SELECT count(*) FROM fact")).scalar() == 0

    for statement in ("DELETE FROM assignment", "INSERT INTO outbox VALUES (1, 't', 'm', '{}')", "CREATE TABLE mine (a int)"):
        with pytest.raises(RegistryUnreachable, match="the role may not do this"), writing(reader) as connection:
            connection.execute(text(statement))
    for statement in ("CREATE TABLE public.mine (a int)", "CREATE SCHEMA mine", "CREATE ROLE mine"):
        with pytest.raises(RegistryUnreachable, match="the role may not do this"), writing(owner) as connection:
            connection.execute(text(statement))
    for engine in (owner, reader):
        engine.dispose()


def test_what_is_wrong_with_an_address_or_a_password_is_said(cluster: Cluster, address: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsWrong, match="address of the database"):
        open_engine("postgresql//nonsense")
    secret = address.replace("only-for-tests", "a-wrong-one")
    wrong = open_engine(secret)
    with pytest.raises(RegistryUnreachable, match="password authentication failed") as refused, reading(wrong):
        """It does not get here."""
    assert "a-wrong-one" not in str(refused.value)
    unreadable = open_engine(address, password_file=tmp_path / "nothing")
    with pytest.raises(SettingsWrong, match="DATABASE_PASSWORD_FILE"), reading(unreadable):
        """Nor here."""
