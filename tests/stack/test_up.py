"""A stack that has just come up: it is whole, closed to those who are no part of it, and nobody in it may do more than its work wants."""

import json
import urllib.error
import urllib.request

import pytest

from stack.running import Stack, docker, until
from stack.world import world

REACH = """
import json, socket, sys
reached = []
for place in sys.argv[1:]:
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 3).close()
        reached.append(place)
    except OSError as error:
        print(place, error, file=sys.stderr)
print(json.dumps(reached))
"""
"""Which places answer, by name or address and port."""
INSIDE = {"mlflow": 5000, "prefect-server": 4200, "postgres": 5432, "s3": 7070, "kafka": 9092, "redis": 6379}
PRODUCE = """
import json
from confluent_kafka import Producer
said = []
producer = Producer({"bootstrap.servers": "kafka:9092", "topic.metadata.propagation.max.ms": 1000, "message.timeout.ms": 20000})
producer.produce("no-such-topic", b"lost", on_delivery=lambda error, message: said.append(error.name() if error else ""))
waiting = producer.flush(30)
print(json.dumps({"said": said, "waiting": waiting, "topics": sorted(producer.list_topics(timeout=10).topics)}))
"""


def test_everything_is_healthy(stack: Stack) -> None:
    assert [name for name in stack.long_running() if not stack.healthy(name)] == []


def test_a_second_up_changes_nothing(stack: Stack) -> None:
    """Jobs run again and find everything done; nothing that serves is restarted or made anew, and no secret changes."""
    before = {name: (stack.state(name)["Id"], stack.state(name)["State"]["StartedAt"]) for name in stack.long_running()}
    secrets, entries = stack.secrets(), stack.said("audit", "verify")

    stack.up()

    assert {name: (stack.state(name)["Id"], stack.state(name)["State"]["StartedAt"]) for name in stack.long_running()} == before
    assert stack.secrets() == secrets
    assert len(secrets) > 10
    assert stack.said("audit", "verify") == entries


def test_a_client_of_the_service_reaches_the_service_and_nothing_else(stack: Stack) -> None:
    """By address, since another network's names are not even known there."""
    addresses = [f"{address(stack, name)}:{port}" for name, port in INSIDE.items()]

    assert reached(stack, "clients", "inference:8100", *addresses) == ["inference:8100"]
    assert reached(stack, "inside", *addresses) == addresses


def test_the_parts_reach_each_other_and_not_the_world(stack: Stack) -> None:
    parts = [f"{name}:{port}" for name, port in INSIDE.items()]
    with world(stack) as somewhere:
        until(lambda: reached(stack, "outside", somewhere), lambda places: places == [somewhere], 60, "the world does not answer")
        assert reached(stack, "inside", *parts, somewhere) == parts
        assert reached(stack, "clients", somewhere) == []
        assert json.loads(stack.python(REACH, *parts, somewhere)) == parts


def address(stack: Stack, name: str) -> str:
    """Of a service, where its peers are."""
    return str(stack.state(name)["NetworkSettings"]["Networks"][f"{stack.project}_inside"]["IPAddress"])


def reached(stack: Stack, network: str, *places: str) -> list[str]:
    """What a container reaches that has nothing but this network."""
    container = ("run", "--rm", "--interactive", "--network", f"{stack.project}_{network}", f"{stack.project}:local")
    return list(json.loads(docker(*container, "python", "-", *places, stdin=REACH)))


def test_what_is_published_listens_on_this_machine_only(stack: Stack) -> None:
    published = {
        (name, binding["HostIp"])
        for name in stack.long_running()
        for bindings in stack.state(name)["NetworkSettings"]["Ports"].values()
        for binding in bindings or ()
    }

    assert {name for name, _ in published} >= {"inference", "mlflow", "prefect-server"}
    assert {address for _, address in published} == {"127.0.0.1"}


def test_nobody_is_root_and_nobody_writes_into_its_image(stack: Stack) -> None:
    for name in stack.long_running():
        state = stack.state(name)
        assert state["Config"]["User"].split(":")[0] not in ("", "0", "root") or name == "kafka", name  # kafka's image says who it is
        assert state["HostConfig"]["ReadonlyRootfs"], name
        assert state["HostConfig"]["CapDrop"] == ["ALL"], name
        assert state["HostConfig"]["SecurityOpt"] == ["no-new-privileges:true"], name
        if name != "otel-collector":  # its image holds one program and nothing to look with
            status = docker("exec", state["Id"], "cat", "/proc/1/status")
            assert "Uid:\t0" not in status, name
            assert "NoNewPrivs:\t1" in status, name


def test_the_service_may_read_the_ledger_and_not_write_it(stack: Stack) -> None:
    attempt = """
from pathlib import Path
import psycopg
with psycopg.connect("postgresql://lab_service@postgres:5432/lab", password=Path("/run/lab/database").read_text()) as connection:
    print(connection.execute("SELECT count(*) FROM audit_entry").fetchone())
    for statement in ("DELETE FROM audit_entry", "CREATE TABLE mine (x int)", "SELECT pg_read_file('/etc/passwd')"):
        try:
            with connection.transaction():
                connection.execute(statement)
            print("done:", statement)
        except psycopg.Error as error:
            print("refused:", statement)
for database in ("mlflow", "prefect", "postgres"):
    try:
        psycopg.connect(f"postgresql://lab_service@postgres:5432/{database}", password=Path("/run/lab/database").read_text()).close()
        print("done:", database)
    except psycopg.Error as error:
        print("refused:", database)
"""
    said = stack.python(attempt, service="inference")

    assert said.count("refused:") == 6
    assert "done:" not in said


def test_the_service_may_read_packages_and_nothing_else(stack: Stack) -> None:
    attempt = """
from obstore import list as listed, put
from obstore.store import S3Store
from pathlib import Path
key, secret = (Path(f"/run/lab/s3-{half}").read_text() for half in ("key", "secret"))
server = {"aws_endpoint": "http://s3:7070", "aws_region": "us-east-1", "aws_access_key_id": key, "aws_secret_access_key": secret}
for bucket in ("packages", "tables", "mlflow"):
    store = S3Store(bucket, config=server, client_options={"allow_http": True}, retry_config={"max_retries": 0})
    for name, act in (("list", lambda: listed(store).collect()), ("put", lambda: put(store, "mine", b"x"))):
        try:
            act()
            print("done:", name, bucket)
        except Exception as error:
            print("refused:", name, bucket)
"""
    said = stack.python(attempt, service="inference").splitlines()

    assert said == ["done: list packages"] + [f"refused: {act} {bucket}" for act, bucket in REFUSED]


REFUSED = [("put", "packages"), ("list", "tables"), ("put", "tables"), ("list", "mlflow"), ("put", "mlflow")]


def test_mlflow_answers_by_its_names_and_to_no_other(stack: Stack) -> None:
    """A browser that a foreign page sends here brings that page's name along."""
    asked = f"http://127.0.0.1:{stack.port('mlflow')}/api/2.0/mlflow/experiments/get?experiment_id=0"
    with urllib.request.urlopen(asked, timeout=10) as answer:
        assert json.load(answer)["experiment"]["name"] == "Default"
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(urllib.request.Request(asked, headers={"Host": "evil.example"}), timeout=10)
    inside = "import urllib.request as r; print(r.urlopen('http://mlflow:5000/api/2.0/mlflow/experiments/get?experiment_id=0').status)"
    assert stack.python(inside).strip() == "200"


def test_no_log_holds_a_secret(stack: Stack) -> None:
    """None of all that were made, whoever uses them."""
    read = "import json, pathlib; print(json.dumps({p.name: p.read_text().strip() for p in pathlib.Path('%s').glob('%s')}))"
    as_root = ("--user", "0:0", "--network", "none")  # each is readable by its user alone
    volume = ("--volume", f"{stack.project}_secrets:/secrets:ro")
    made = docker("run", "--rm", *as_root, *volume, f"{stack.project}:local", "python", "-c", read % ("/secrets/all", "*"))
    secrets = json.loads(made) | json.loads(stack.python(read % ("/lab/keys", "*.token")))
    logs = stack.compose("logs", "--no-color")

    assert secrets.keys() >= {"postgres", "lab", "mlflow", "prefect", "s3_root", "redis_serving", "grafana", "approver.token"}
    assert min(map(len, secrets.values())) > 16
    assert [name for name, secret in secrets.items() if secret in logs] == []


def test_a_lost_topic_is_not_made_by_accident(stack: Stack) -> None:
    said = json.loads(stack.python(PRODUCE))

    assert (said["said"], said["waiting"]) == (["UNKNOWN_TOPIC_OR_PART"], 0)
    assert "lab.control" in said["topics"]
    assert "no-such-topic" not in said["topics"]


def test_the_image_that_answers_is_small(stack: Stack) -> None:
    """It is what every replica pulls before it can start."""
    size = int(docker("image", "inspect", stack.state("inference")["Image"], "--format", "{{.Size}}"))

    assert size < 250e6
