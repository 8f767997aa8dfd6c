"""Nothing that a model file contains is executed, and no partial or foreign package is loaded, whatever lies in store or cache."""

import errno
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import serving_builders
from forest_builders import a_large_forest
from hostile_packages import CASES, HARMS, RETIRED, STRANGER, World, detonate, harmed, payloads, put, signed
from mlops_lab.bootstrap.founding import FOUNDED_AT, found
from mlops_lab.bootstrap.lab import Lab
from mlops_lab.cli.main import run
from mlops_lab.errors import ScorerRefused, SettingsWrong, StoreUnreachable, UsageError
from mlops_lab.features.view import Kind
from mlops_lab.flights.transform import FEATURES
from mlops_lab.registry.version import ModelVersion, Role
from mlops_lab.scoring import DirectoryStore, Forest, InTime, Package, files, sha256
from mlops_lab.scoring.keys import KeyRing, fingerprint, known_keys, rotate, signing_key
from mlops_lab.scoring.manifest import check
from mlops_lab.serving.cache import PackageCache
from mlops_lab.serving.prediction_log import read_frames
from mlops_lab.settings import Settings
from serving_builders import KEY, MODEL, a_package, a_replica

OTHER = Package(*a_package(0.77))
WORLD = World(KEY, OTHER, "somebody-else's")


@pytest.fixture(autouse=True)
def nothing_deep_is_left(tmp_path: Path) -> Iterator[None]:
    """A nest that is deeper than Python's stack would make pytest stumble when it tidies up, in this run or the next."""
    yield
    subprocess.run(["rm", "-rf", *tmp_path.iterdir()], check=True)


def rss_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_of_250_harmed_packages_in_the_store_none_is_parsed_and_the_old_model_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the 500 seeded cases, 23 kinds of harm. Each is refused within a second, and no memory is filled."""
    parsed: list[str] = []
    loads = serving_builders.load
    monkeypatch.setattr(serving_builders, "load", lambda content: (parsed.append(sha256(content)), loads(content))[1])
    packages = DirectoryStore(tmp_path / "packages")
    replica = a_replica(tmp_path)
    replica.follow()
    monkeypatch.setattr(replica.store, "get", InTime(packages, 10.0).get)
    parsed.clear()
    before, slow = rss_mib(), {}
    for seed in range(CASES // 2):
        good = Package(*a_package(0.5 + seed / 1000))
        folder = packages.path / sha256(good.scorer)
        put(folder, good)
        name = harmed(folder, seed, WORLD)
        replica.books.promote(2 + seed, folder.name)
        began = time.monotonic()
        replica.follow()
        if (took := time.monotonic() - began) > 1:
            slow[seed] = took
        assert parsed == [], f"case {seed} ({name}) was parsed"
        assert replica.parts.slot.require().champion.version == 1, f"case {seed} ({name})"
        assert f"Version {2 + seed} could not be put in place" in (replica.parts.follower.trouble or ""), f"case {seed} ({name})"
    assert len(slow) <= 2, slow
    assert rss_mib() - before < 64


def test_of_250_harmed_packages_in_the_cache_none_is_used_and_each_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other half. With the store down nothing is answered with; with the store up the package is fetched anew and kept."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # 2,500 of them prove nothing here
    packages, told = DirectoryStore(tmp_path / "packages"), []
    good = Package(*a_package(0.4))
    digest = packages.put(*good)
    store = SimpleNamespace(get=packages.get)
    before = rss_mib()
    for seed in range(CASES // 2, CASES):
        directory = tmp_path / f"replica-{seed}"
        cache = PackageCache(directory, store, [KEY.public_key()], report=lambda *said: told.append(said))
        assert cache.scorer(digest, MODEL) == good.scorer
        name = harmed(directory / digest, seed, WORLD)
        put_down = seed % 2 == 0
        if put_down:
            store.get = _down
            with pytest.raises((ScorerRefused, StoreUnreachable)):
                cache.scorer(digest, MODEL)
            store.get = packages.get
        assert cache.scorer(digest, MODEL) == good.scorer, f"case {seed} ({name})"
        store.get = _down
        assert cache.scorer(digest, MODEL) == good.scorer, f"case {seed} ({name}): it was not kept"
        store.get = packages.get
        left = [path.name for path in directory.iterdir() if path.name != digest and not path.name.startswith("elsewhere-")]
        assert left == [], f"case {seed} ({name})"
    assert rss_mib() - before < 64
    reported = {what for what, *_ in told}
    assert reported == {"cached_package_refused"}
    assert len(told) >= (CASES // 2) * 0.85, "all but the files that are gone are told to the audit trail"
    assert all(set(digests) >= {"scorer_sha256"} for *_, digests in told)


def _down(digest: str) -> Package:
    raise StoreUnreachable.at("the tests' store", "it is down")


def test_every_kind_of_harm_has_its_turn_and_does_harm(tmp_path: Path) -> None:
    """The corpus itself: 23 kinds, the same for the same seed, and none leaves a package as it was."""
    good = Package(*a_package(0.4))
    seen = set()
    for seed in range(len(HARMS) * 4):
        folder = tmp_path / str(seed) / sha256(good.scorer)
        put(folder, good)
        seen.add(harmed(folder, seed, WORLD))
        try:
            assert files.read_package(folder) != good
        except (ScorerRefused, OSError):
            continue
    assert seen == set(HARMS)


@pytest.mark.parametrize("name", ["scorer.json", "manifest.json", "signature", ""])
def test_a_link_is_not_followed_even_to_the_right_content(tmp_path: Path, name: str) -> None:
    """Whoever can place a link chooses what is read, and may change it after it was checked."""
    good = Package(*a_package(0.4))
    put(tmp_path / "package", good)
    assert files.read_package(tmp_path / "package") == good
    place = tmp_path / "package" / name
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ScorerRefused, match="link"):
        files.read_package(tmp_path / "package")


def test_what_is_refused_says_what_was_found(tmp_path: Path) -> None:
    """The audit entry of a refusal names the digests of what lay there, so that it can be looked for elsewhere."""
    bad = signed(a_package(0.4)[0], STRANGER, MODEL)
    cache = PackageCache(tmp_path, SimpleNamespace(get=lambda _: bad), [KEY.public_key()])

    with pytest.raises(ScorerRefused) as refused:
        cache.scorer(sha256(bad.scorer), MODEL)

    assert refused.value.digests["found_signature"] == sha256(bad.signature)
    assert refused.value.digests["found_manifest"] == sha256(bad.manifest)


# -- a store that is slow, down, or cut in the middle ----------------------------------------------------------------------------------


class CutOs:
    """`os` whose reads end after so many bytes: with an error, as if the file ended, or not at all."""

    def __init__(self, after: int, how: str, released: threading.Event) -> None:
        self._left, self._how, self._released = after, how, released

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def read(self, descriptor: int, count: int) -> bytes:
        if self._left <= 0:
            if self._how == "error":
                raise OSError(errno.EIO, "the share is gone")
            if self._how == "end":
                return b""
            self._released.wait(30)
            raise OSError(errno.ESTALE, "too late")
        piece = os.read(descriptor, min(count, self._left))
        self._left -= len(piece)
        return piece


def test_a_download_that_is_cut_anywhere_leaves_nothing_that_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """200 cut points over the bytes of the three files: a read error, an end too early, a share that hangs. 0 partial packages."""
    packages = DirectoryStore(tmp_path / "packages")
    good = Package(*a_package(0.4))
    digest = packages.put(*good)
    whole, rng = sum(map(len, good)), random.Random(5)
    for case in range(200):
        how = ("error", "end", "hang")[case % 3] if case % 10 == 2 else ("error", "end")[case % 2]
        directory, released = tmp_path / f"cache-{case}", threading.Event()
        store = InTime(packages, 0.05 if how == "hang" else 30.0)
        cache = PackageCache(directory, store, [KEY.public_key()])
        monkeypatch.setattr(files, "os", CutOs(rng.randrange(whole), how, released))
        with pytest.raises((StoreUnreachable, ScorerRefused)):
            cache.scorer(digest, MODEL)
        if how == "hang":
            with pytest.raises(StoreUnreachable, match="still hangs"):
                cache.scorer(digest, MODEL)
        assert not directory.exists() or list(directory.iterdir()) == []
        released.set()
        monkeypatch.setattr(files, "os", os)
        deadline = time.monotonic() + 10
        while True:
            try:
                assert cache.scorer(digest, MODEL) == good.scorer
                break
            except StoreUnreachable:  # the read that hung is just ending
                assert time.monotonic() < deadline
                time.sleep(0.01)


KILLED = """
import sys, itertools
from pathlib import Path
from types import SimpleNamespace
from mlops_lab.scoring import DirectoryStore
from mlops_lab.scoring.keys import KeyRing
from mlops_lab.serving.cache import PackageCache
home, digests = Path(sys.argv[1]), sys.argv[2:]
cache = PackageCache(home / "cache", DirectoryStore(home / "packages"), KeyRing(home / "key.pub"), keep=1)
for digest in itertools.cycle(digests):
    cache.scorer(digest, "m")
    print("one", flush=True)
"""


def test_a_process_that_is_killed_while_it_downloads_leaves_nothing_half(tmp_path: Path) -> None:
    """20 kills at random moments of a process that downloads without a pause; then the cache is read with the store down."""
    packages, forest = DirectoryStore(tmp_path / "packages"), a_large_forest(trees=150).to_bytes()
    (tmp_path / "key.pub").write_bytes(KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
    contents = {packages.put(*signed(forest + bytes([n]), KEY, "m")): forest + bytes([n]) for n in range(3)}
    rng, left_over, whole = random.Random(2), 0, 0
    for _ in range(20):
        child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path), *contents], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(rng.uniform(0, 0.15))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        left_over += sum(path.name.startswith("tmp-") for path in (tmp_path / "cache").iterdir())
        cache = PackageCache(tmp_path / "cache", SimpleNamespace(get=_down), [KEY.public_key()])
        for digest in cache.holds():
            assert cache.scorer(digest, "m") == contents[digest]
            whole += 1
        with pytest.raises(StoreUnreachable):
            cache.scorer("0" * 64, "m")
        assert not list((tmp_path / "cache").glob("tmp-*")), "what was left is swept"
    assert whole, "otherwise this test proves nothing"
    assert left_over, "otherwise no kill fell into a download"


def test_a_read_that_hangs_does_not_keep_a_process_from_ending() -> None:
    program = (
        "import time; from types import SimpleNamespace; from mlops_lab.scoring import InTime\n"
        "store = InTime(SimpleNamespace(get=lambda digest: time.sleep(3600)), 0.2)\n"
        "try: store.get('0' * 64)\nexcept Exception as error: print(error)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)

    assert "did not answer within 0.2 s" in done.stdout


# -- keys ----------------------------------------------------------------------------------------------------------------------------


def test_several_keys_are_valid_at_once_raw_or_pem_in_a_folder_or_a_file(tmp_path: Path) -> None:
    raw = lambda key: key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)  # noqa: E731
    pem = lambda key: key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)  # noqa: E731
    (tmp_path / "a.pub").write_bytes(raw(KEY))
    (tmp_path / "b.pub").write_bytes(pem(STRANGER))
    (tmp_path / "not-a-key.txt").write_text("left alone")
    (tmp_path / "both.pem").write_bytes(pem(KEY) + b"\n" + pem(RETIRED))

    assert {raw_of(key) for key in KeyRing(tmp_path)} == {raw(KEY), raw(STRANGER)}
    assert {raw_of(key) for key in KeyRing(tmp_path / "both.pem")} == {raw(KEY), raw(RETIRED)}
    (tmp_path / "c.pub").write_bytes(b"no key")
    for place in (tmp_path, tmp_path / "c.pub", tmp_path / "nowhere"):
        with pytest.raises(SettingsWrong):
            iter(KeyRing(place))


def test_a_rotation_that_is_killed_anywhere_leaves_a_valid_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step is a rename; after each, whoever signs next signs with a key that the ring holds."""
    signing_key(tmp_path)
    moves = Path.replace
    for steps in range(5):
        left = [steps]

        def replaced(path: Path, target: Path, left: list[int] = left) -> Path:
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            return moves(path, target)

        monkeypatch.setattr(Path, "replace", replaced)
        with suppress(KeyboardInterrupt):
            rotate(tmp_path)
        monkeypatch.setattr(Path, "replace", moves)
        valid = {fingerprint(key) for key in KeyRing(tmp_path)}
        assert fingerprint(signing_key(tmp_path).public_key()) in valid, f"after {steps} steps"


def test_what_an_old_key_signed_is_served_until_that_key_is_retired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real service, and `lab keys` beside it: rotate, serve an old signature, retire, refuse one; the model in place stays."""
    lab = a_home(tmp_path / "home")
    monkeypatch.setenv("LAB_HOME", str(lab.home))
    old = signing_key(lab.keys)
    with a_serving_process(lab.home) as (_, client):
        until(client, version=1)
        assert run(["keys", "rotate", "--why", "yearly"]) == 0
        new = signing_key(lab.keys)
        assert check(*lab.packages.get(lab.ledger.version(1).scorer_sha256), [new.public_key()]), "version 1 is signed again"

        promote(lab, lab.packages.put(*signed(a_leaf(0.2), old, lab.model)))
        until(client, version=2)

        assert run(["keys", "retire", fingerprint(new.public_key()), "--why", "the wrong one"]) == UsageError.exit_code
        assert run(["keys", "retire", fingerprint(old.public_key()), "--why", "a year later"]) == 0
        promote(lab, lab.packages.put(*signed(a_leaf(0.3), old, lab.model)))
        said = until(client, trouble="Version 3 could not be put in place")
        assert said["version"] == 2
        assert "signature fits none" in json.dumps(said["degraded"])

        promote(lab, lab.packages.put(*signed(a_leaf(0.4), new, lab.model)))
        until(client, version=4)
    again = Lab(Settings(home=lab.home))
    assert again.trail.verify() is None
    assert {"SigningKeyRotated", "SigningKeyRetired"} <= {entry.action for entry in again.trail.entries()}
    assert [key.state for key in known_keys(lab.keys)] == ["signs", "retired"]


def test_a_replica_trusts_the_keys_of_its_settings_and_not_those_beside_the_packages(tmp_path: Path) -> None:
    """LAB_SERVICE__VERIFYING_KEYS names a file that holds another key: the home's own packages are foreign to this replica."""
    lab = a_home(tmp_path / "home")
    (tmp_path / "trusted.pem").write_bytes(STRANGER.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with a_serving_process(lab.home, LAB_SERVICE__VERIFYING_KEYS=str(tmp_path / "trusted.pem")) as (_, client):
        said = until(client, trouble="signature fits none", refused=True)
        assert "version" not in said
        promote(lab, lab.packages.put(*signed(a_leaf(0.4), STRANGER, lab.model)))
        until(client, version=2)


def raw_of(key: Any) -> bytes:
    content: bytes = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return content


# -- payloads, in a real serving process -----------------------------------------------------------------------------------------------


def test_the_payloads_are_payloads(tmp_path: Path) -> None:
    """Opened the way each hole opens it, every one of the twelve leaves its mark: what the next test refuses is dangerous."""
    (tmp_path / "marks").mkdir()
    twelve = payloads(tmp_path / "marks")
    assert len(twelve) == 12
    for name, payload in twelve.items():
        detonate(payload, tmp_path / name.replace(" ", "-"))
        assert payload.mark.exists(), f"{name} did nothing"


@contextmanager
def a_serving_process(home: Path, **settings: str) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"LAB_HOME": str(home), "LAB_SERVICE__PORT": str(port), "LAB_SERVICE__FOLLOW_S": "0.05", **settings}
    with (home / "service.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "mlops_lab.bootstrap.serve"], env=environment, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield process, client
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()


def model_of(client: httpx.Client) -> dict[str, Any]:
    try:
        answer = client.get("/v1/model")
    except httpx.TransportError:  # it is just starting
        return {}
    found: dict[str, Any] = answer.json()
    return found


def until(
    client: httpx.Client, version: int | None = None, trouble: str = "", seconds: float = 30, refused: bool = False
) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while True:
        said = model_of(client)
        if said.get("version") == version if version else trouble in json.dumps(said if refused else said.get("degraded", "")):
            return said
        assert time.monotonic() < deadline, f"waited for {version or trouble}, found {said}"
        time.sleep(0.02)


def peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def promote(lab: Lab, digest: str) -> int:
    """Register what lies at an address and give it the traffic, past judge and approval."""
    number = len(lab.ledger.versions()) + 1
    version = ModelVersion(lab.model, number, f"run-{number}", digest, "d" * 64, FOUNDED_AT, FOUNDED_AT, "trainer", "drill")
    lab.ledger.add_version(version, "trainer")
    now = lab.ledger.current(Role.CHAMPION)
    lab.ledger.assign(Role.CHAMPION, number, replacing=now.id if now else None, kind="override", by="operator", why="a test", at=FOUNDED_AT)
    return number


def a_home(home: Path) -> Lab:
    """A home whose champion, version 1, is a forest of one leaf over the features of flights."""
    home.mkdir()
    lab = Lab(Settings(home=home))
    found(lab)
    promote(lab, lab.packages.put(*signed(a_leaf(), signing_key(lab.keys), lab.model)))
    return lab


def a_leaf(log_odds: float = 0.5) -> bytes:
    categories: dict[str, dict[str, int]] = {feature.name: {} for feature in FEATURES if feature.kind is Kind.CATEGORY}
    return Forest(FEATURES, categories, 0.0, ((log_odds,),)).to_bytes()


def test_a_serving_process_executes_nothing_of_twelve_hostile_packages_signed_or_not(tmp_path: Path) -> None:
    """24 packages as champions of a real service: unsigned they are refused before they are parsed, signed by the reader. Version 1 stays.

    No mark is left, each is refused within 10 s of the ledger's line, and the process needs less than 48 MiB more at its peak.
    """
    (tmp_path / "marks").mkdir()
    lab = a_home(tmp_path / "home")
    with a_serving_process(lab.home) as (process, client):
        until(client, version=1)
        before, reasons = peak_mib(process.pid), {}
        for kind in ("unsigned", "signed"):
            for name, payload in payloads(tmp_path / "marks").items():
                content = payload.content + (b" " if kind == "signed" else b"")  # another digest
                package = signed(content, signing_key(lab.keys), lab.model)
                folder = tmp_path / "home/packages" / sha256(content)
                put(folder, package if kind == "signed" else package._replace(signature=bytes(64)))
                for file, inside in payload.beside.items():
                    (folder / file).write_bytes(inside)
                number = promote(lab, folder.name)
                said = until(client, trouble=f"Version {number} could not be put in place", seconds=10)
                assert said["version"] == 1, name
                reasons[kind, name] = " ".join(said["degraded"])
        assert client.get("/readyz").status_code == 200
        assert process.poll() is None
        grown = peak_mib(process.pid) - before
    assert list((tmp_path / "marks").iterdir()) == []
    frames = [frame for _, frame in read_frames(lab.home / "serving/replica-1/log")]
    told = [frame["digests"] for frame in frames if frame["kind"] == "incident" and frame["what"] == "package_refused"]
    assert {digests["scorer"] for digests in told} == {version.scorer_sha256 for version in lab.ledger.versions()[1:]}
    assert sum(digests.get("found_signature") == sha256(bytes(64)) for digests in told) >= 12, "with what was found in the place of it"
    assert len(reasons) == 24
    assert all("signature fits none" in why for (kind, _), why in reasons.items() if kind == "unsigned"), reasons
    assert all("The scorer file was refused" in why for (kind, _), why in reasons.items() if kind == "signed"), reasons
    assert grown < 48, f"{grown} MiB"
