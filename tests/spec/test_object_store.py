"""What an object store has to promise before tables are trusted to it, and what a package from one may be."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlops_lab.bootstrap import Lab
from mlops_lab.errors import ScorerRefused, SettingsWrong, StoreUnreachable, StoreUnsafe
from mlops_lab.objects import Place
from mlops_lab.objects.on_s3 import require_conditional_put
from mlops_lab.scoring.files import LIMITS, Package
from mlops_lab.scoring.manifest import sha256
from mlops_lab.scoring.on_s3 import S3Packages, packed, unpacked
from mlops_lab.scoring.store import InTime
from mlops_lab.settings import Settings, StoreSettings
from s3_stub import Habit, Stub

PACKAGE = Package(b'{"trees": []}' * 1000, b'{"model": "flight-delay"}', b"s" * 64)


@pytest.fixture
def store() -> Iterator[Callable[[Habit], Stub]]:
    stubs: list[Stub] = []

    def one_that(habit: Habit) -> Stub:
        stubs.append(Stub(habit))
        return stubs[-1]

    yield one_that
    for stub in stubs:
        stub.close()


def place(stub: Stub, timeout_s: float = 5.0) -> Place:
    return Place("bucket", "lab", stub.endpoint, key_id="key", secret="secret", timeout_s=timeout_s)


# -- the condition -----------------------------------------------------------------------------------------------------------------------


def test_a_store_that_refuses_a_key_that_is_there_may_hold_tables(store: Callable[[Habit], Stub]) -> None:
    stub = store("honours the condition")

    require_conditional_put(place(stub))

    first, second, removal = stub.asked
    assert first == second
    assert (first[0], removal[0]) == ("PUT", "POST")
    assert stub.objects == {}


def test_no_table_is_opened_in_a_store_that_overlooks_the_condition(store: Callable[[Habit], Stub], tmp_path: Path) -> None:
    """It would acknowledge the appends of two writers and keep those of one, without any error."""
    stub = store("overlooks the condition")
    for name in ("key", "secret"):
        (tmp_path / name).write_text(f"{name}\n")
    said = StoreSettings(
        tables="s3://bucket/lab/tables", s3_endpoint=stub.endpoint, s3_key_file=tmp_path / "key", s3_secret_file=tmp_path / "secret"
    )

    with pytest.raises(StoreUnsafe, match=r"If-None-Match: \*.*would lose rows"):
        Lab(Settings(home=tmp_path / "home", stores=said)).tables.version("predictions")

    assert {key.startswith("lab/tables/_lab-check-") for method, key in stub.asked if method == "PUT"} == {True}
    assert stub.objects == {}


def test_a_store_that_cannot_be_asked_is_not_trusted(store: Callable[[Habit], Stub]) -> None:
    with pytest.raises(StoreUnreachable, match="NotImplemented"):
        require_conditional_put(place(store("refuses the condition")))
    gone = store("honours the condition")
    gone.close()
    with pytest.raises(StoreUnreachable, match="s3://bucket/lab at http"):
        require_conditional_put(place(gone, timeout_s=1))


# -- packages ----------------------------------------------------------------------------------------------------------------------------


def test_a_package_comes_back_as_it_was_put_and_a_new_signature_replaces_the_old(store: Callable[[Habit], Stub]) -> None:
    stub = store("honours the condition")
    packages = S3Packages(place(stub))

    digest = packages.put(*PACKAGE)
    assert (digest, packages.get(digest)) == (sha256(PACKAGE.scorer), PACKAGE)
    assert packages.put(PACKAGE.scorer, PACKAGE.manifest, b"t" * 64) == digest
    assert packages.get(digest).signature == b"t" * 64
    assert list(stub.objects) == [f"lab/{digest}.package"]


def test_what_is_not_there_is_said_and_no_other_address_is_asked_for(store: Callable[[Habit], Stub]) -> None:
    stub = store("honours the condition")
    packages = S3Packages(place(stub))
    with pytest.raises(StoreUnreachable, match="holds no package 000000000000"):
        packages.get("0" * 64)
    asked = len(stub.asked)
    with pytest.raises(StoreUnreachable, match="is no address"):
        packages.get("../keys")
    assert len(stub.asked) == asked


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no package"),
        (b"PK\x03\x04" * 10, "no package"),
        (packed(PACKAGE)[:-1], "its files take"),
        (packed(PACKAGE) + b"x", "its files take"),
        (packed(PACKAGE)[:25], "its files take"),
        (packed(PACKAGE._replace(signature=b"s" * 65)), "at most 64 are read"),
        (packed(PACKAGE)[:20] + (LIMITS["scorer.json"] + 1).to_bytes(8, "big"), "are read"),
    ],
)
def test_what_is_not_exactly_three_lawful_files_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(ScorerRefused, match=why):
        unpacked("0" * 64, content)


def test_an_object_that_is_too_large_is_refused_by_its_size(store: Callable[[Habit], Stub]) -> None:
    stub = store("honours the condition")
    stub.objects[f"lab/{0:064x}.package"] = bytes(sum(LIMITS.values()) + 1000)
    with pytest.raises(ScorerRefused, match="at most"):
        S3Packages(place(stub)).get("0" * 64)


def test_a_download_that_ends_halfway_is_no_package(store: Callable[[Habit], Stub]) -> None:
    stub = store("stops halfway")
    packages = S3Packages(place(stub, timeout_s=1))
    digest = packages.put(*PACKAGE)
    with pytest.raises(StoreUnreachable):
        packages.get(digest)


def test_a_store_that_says_nothing_costs_a_reader_its_deadline_and_no_more(store: Callable[[Habit], Stub]) -> None:
    """The client's own limit is a minute; the reader's thread goes on, for the wait holds no lock of the interpreter."""
    stub = store("says nothing")
    packages = InTime(S3Packages(place(stub, timeout_s=60)), deadline_s=0.2)
    digest = packages.put(*PACKAGE)
    with pytest.raises(StoreUnreachable, match=r"did not answer within 0\.2 s"):
        packages.get(digest)
    with pytest.raises(StoreUnreachable, match="still hangs"):
        packages.get(digest)

    stub.silent.set()
    assert packages._asking is not None
    packages._asking.join(timeout=30)
    assert packages.get(digest) == PACKAGE


# -- settings ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["bucket/prefix", "http://bucket", "s3://", "s3://B", "s3://bucket/a b", "s3://bucket?x=1"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(SettingsWrong, match="no place in an object store"):
        Place.of(address)


def test_a_key_has_two_halves_and_comes_from_files(tmp_path: Path) -> None:
    key, secret = tmp_path / "key", tmp_path / "secret"
    key.write_text("AKIA\n")
    secret.write_text("hush\n")
    found = Place.of("s3://bucket/a/b/", key_file=key, secret_file=secret)

    assert (found.url, found.key_id, found.secret) == ("s3://bucket/a/b", "AKIA", "hush")
    assert "hush" not in repr(found)
    with pytest.raises(SettingsWrong, match="two halves"):
        Place.of("s3://bucket", key_file=key)
    with pytest.raises(SettingsWrong, match="cannot be read"):
        Place.of("s3://bucket", key_file=key, secret_file=tmp_path / "none")
