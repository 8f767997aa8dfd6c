"""What tests against real parts share: a topic prefix and a Redis database of their own, and a clear end where a part is missing.

A missing part fails the suite instead of skipping it: what is skipped for years is not tested. Start the parts and run
`make test-services`; LAB_TEST_KAFKA and LAB_TEST_REDIS name others than the usual addresses. A PostgreSQL is started from the programs
that are installed here, since some tests restart it; LAB_TEST_POSTGRES names another for those that do not.
LAB_TEST_OTELCOL is the program of an OpenTelemetry collector. LAB_TEST_S3 is the address of an S3 server, with LAB_TEST_S3_KEY,
LAB_TEST_S3_SECRET and a bucket, LAB_TEST_S3_BUCKET, that exists.
"""

import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import obstore
import pytest
import redis
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from sqlalchemy import Connection, Engine, event

from databases import Schemas, on_server
from missing_part import missing
from mlops_lab.embedded.ports import split
from mlops_lab.objects import Place
from mlops_lab.objects.on_s3 import opened
from mlops_lab.settings import EventSettings, FeatureSettings
from postgres_cluster import Cluster, NoPostgres

pytest.register_assert_rewrite("spec")  # specifications that are repeated here say as much when they fail

DATABASES = range(1, 16)
CLAIM_S = 900


@pytest.fixture(scope="session")
def kafka(addresses: dict[str, str]) -> str:
    """Bootstrap servers of a broker that answers."""
    servers = addresses["LAB_TEST_KAFKA"]
    try:
        AdminClient({"bootstrap.servers": servers, "log_level": 0}).list_topics(timeout=5)
    except KafkaException as error:
        missing(
            f"No Kafka answers at {servers} ({error.args[0].str()}).",
            "start Apache Kafka 4 there, for instance from its container image, or name another by LAB_TEST_KAFKA=host:port.",
        )
    return servers


@pytest.fixture(scope="session")
def kafka_with_login(addresses: dict[str, str]) -> tuple[str, Path]:
    """Bootstrap servers of a broker that wants SASL/PLAIN, and the folder with `lab.password` and `guest.password`."""
    servers, folder = addresses["LAB_TEST_KAFKA_SASL"], Path(addresses["LAB_TEST_KAFKA_SASL_FOLDER"])
    try:
        with socket.create_connection(split(servers), timeout=5):
            pass
        if (folder / "lab.password").is_file() and (folder / "guest.password").is_file():
            return servers, folder
        why = f"There are no passwords in {folder}."
    except OSError as error:
        why = f"No Kafka with a login answers at {servers} ({error})."
    missing(why, "start one with `.ci/kafka-sasl PORT FOLDER`, and name both by LAB_TEST_KAFKA_SASL and LAB_TEST_KAFKA_SASL_FOLDER.")


@pytest.fixture
def topic_prefix(kafka: str) -> Iterator[str]:
    """What the test's topics and groups begin with; whatever it leaves of them is deleted afterwards."""
    prefix = f"test-{uuid.uuid4().hex[:12]}."
    yield prefix
    admin = AdminClient({"bootstrap.servers": kafka, "log_level": 0})
    topics = [name for name in admin.list_topics(timeout=10).topics if name.startswith(prefix)]
    groups = [group.group_id for group in admin.list_consumer_groups().result(timeout=10).valid if group.group_id.startswith(prefix)]
    removals = (admin.delete_topics(topics) if topics else {}) | (admin.delete_consumer_groups(groups) if groups else {})
    for removal in removals.values():
        removal.result(timeout=30)


@pytest.fixture
def events_on_kafka(kafka: str, topic_prefix: str) -> EventSettings:
    """Settings of a bus on the broker, under the test's own prefix."""
    return EventSettings(bus="kafka", kafka=kafka, prefix=topic_prefix)


@pytest.fixture(scope="session")
def redis_server(addresses: dict[str, str]) -> str:
    """Address of a Redis that answers, database 0."""
    url = addresses["LAB_TEST_REDIS"]
    try:
        with redis.Redis.from_url(url, socket_timeout=5) as server:
            server.ping()
    except redis.RedisError as error:
        missing(
            f"No Redis answers at {url} ({error}).",
            "start one: `redis-server --bind 127.0.0.1 --save ''` (Debian: redis-server), or name another by LAB_TEST_REDIS=redis://host:port/0.",
        )
    return url


@pytest.fixture
def redis_url(redis_server: str) -> Iterator[str]:
    """Address of an empty database that no other test uses meanwhile; emptied again afterwards."""
    base = redis_server.rpartition("/")[0]
    with redis.Redis.from_url(redis_server) as claims:
        # Claims are in database 0 and end by themselves, or a killed run would keep its database for ever.
        number = next((each for each in DATABASES if claims.set(f"lab:test:claim:{each}", 1, nx=True, ex=CLAIM_S)), None)
        assert number is not None, f"all {len(DATABASES)} test databases of {redis_server} are in use: wait for the other runs"
        with redis.Redis.from_url(f"{base}/{number}") as own:
            own.flushdb()
            yield f"{base}/{number}"
            own.flushdb()
        claims.delete(f"lab:test:claim:{number}")


@pytest.fixture
def features_on_redis(redis_url: str) -> FeatureSettings:
    """Settings of an online store in the test's own database."""
    return FeatureSettings(store="redis", redis=redis_url)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL that the test may do with as it likes."""
    try:
        own = Cluster()
    except NoPostgres:
        missing("There is no PostgreSQL here to start.", "install its programs (Debian: `apt-get install postgresql`).")
    yield own
    own.stop()


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest, addresses: dict[str, str]) -> str:
    """Address of a database in which the tests may make schemas."""
    given = addresses.get("LAB_TEST_POSTGRES")
    return given or str(request.getfixturevalue("cluster").url)


@pytest.fixture
def schemas(postgres: str) -> Iterator[Schemas]:
    made = Schemas(postgres)
    yield made
    made.drop()


@pytest.fixture
def homes_on_postgres(schemas: Schemas) -> Iterator[None]:
    """What a specification writes in the database of a home is in a schema of PostgreSQL. Each engine is closed at the end."""
    engines: set[Engine] = set()

    def remember(connection: Connection) -> None:
        engines.add(connection.engine)

    event.listen(Engine, "engine_connect", remember)
    with on_server(schemas.address_of):
        yield
    event.remove(Engine, "engine_connect", remember)
    assert all(engine.dialect.name == "postgresql" for engine in engines)
    for engine in engines:
        engine.dispose()


@pytest.fixture
def s3(addresses: dict[str, str]) -> Iterator[Place]:
    """A place of the test's own in a bucket of a real S3 server; whatever it leaves there is deleted."""
    said = [addresses.get(f"LAB_TEST_S3{part}", "") for part in ("", "_KEY", "_SECRET")]
    if not all(said):
        missing(
            "No S3 server is named.",
            "start one, for instance `versitygw posix FOLDER`; set LAB_TEST_S3=http://host:port, LAB_TEST_S3_KEY, LAB_TEST_S3_SECRET.",
        )
    bucket = addresses.get("LAB_TEST_S3_BUCKET", "lab-test")
    own = Place(bucket, f"test-{uuid.uuid4().hex[:12]}", said[0], key_id=said[1], secret=said[2])
    store = opened(own)
    try:
        obstore.list(store).collect()
    except (OSError, obstore.exceptions.BaseError) as error:
        missing(f"{own.shown} does not answer: {str(error)[:300]}", "start it, make the bucket, or correct the LAB_TEST_S3 variables.")
    yield own
    for found in obstore.list(store):
        obstore.delete(store, [each["path"] for each in found])
