"""F3 and F5: the store is cut in mid-download, and packages are tampered with; against a process that serves meanwhile."""

import os
import random
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mlops_lab.chaos.client import Client
from mlops_lab.chaos.fault import Fault, Finding, Size, few
from mlops_lab.chaos.history import Request, failures, read_history
from mlops_lab.chaos.load import Plan
from mlops_lab.chaos.stored import Stored, read_logs, unlogged
from mlops_lab.chaos.world import Home, World
from mlops_lab.scoring.manifest import Manifest, sha256, sign
from mlops_lab.scoring.scorer import Scorer
from mlops_lab.scoring.store import Package

_FOLLOW_S = 0.1
_NAMES = ("scorer.json", "manifest.json", "signature")
_WAIT_S = 15.0
_REASONABLE = 1e-9


@dataclass(frozen=True)
class Cut:
    """One download that was cut: the version, how, from when to when nothing whole was there, and when it was whole (monotonic ns)."""

    version: int
    how: str
    cut_ns: int
    whole_ns: int


@dataclass(frozen=True)
class CutShort:
    """The evidence of F3.

    Attributes:
        requests: The client's history.
        stored: The log.
        cuts: What was done.
        cached: What lies in the replica's cache: the digest in the name, and the digest of the content.
        differing: Answers of the log that the whole scorer, read here, does not give for the logged features.
        scored: Answers that were recomputed.
    """

    requests: Sequence[Request]
    stored: Stored
    cuts: Sequence[Cut]
    cached: Mapping[str, str]
    differing: Sequence[str]
    scored: int


def run_cuts(world: World, seed: int, size: Size) -> CutShort:
    """Promote versions of which only a part can be had, then give the rest."""
    chance, home = random.Random(seed), world.home()
    history = home.path / "history.jsonl"
    cuts: list[Cut] = []
    cached: dict[str, str] = {}
    whole = dict(enumerate((forest.to_bytes() for forest in home.materials.forests), 1))
    with home.replica(follow_s=_FOLLOW_S) as replica:
        replica.start()
        plan = Plan((replica.port,), str(history), str(home.bodies), connections=2, pause_ms=10, seed=seed)
        with Client(plan) as client:
            client.await_answers()
            for number in range(size.of(20, 200)):
                package = home.package(home.variant(number + 1))
                digest = sha256(package.scorer)
                how = _cut(home, digest, package, number, chance)
                version = home.register(digest)
                whole[version] = package.scorer
                cut = time.monotonic_ns()
                home.promote(version)
                time.sleep(0.3)
                _finish(home, digest, package)
                done = time.monotonic_ns()
                _await_version(replica.predict, home, version)
                cuts.append(Cut(version, how, cut, done))
                cached |= _cached(home)
            client.stop()
        replica.end()
    stored = read_logs([home.log()])
    differing, scored = _recompute(stored, whole, chance)
    return CutShort(read_history(history), stored, cuts, cached, differing, scored)


def check_cuts(seen: CutShort) -> Finding:
    """No version answers before it was whole, every one does afterwards, and none answers other than the whole scorer."""
    broken = failures(seen.requests) + unlogged(seen.requests, seen.stored)
    partial = []
    for cut in seen.cuts:
        answers = [request for request in seen.requests if request.version == cut.version]
        if any(request.done_ns < cut.whole_ns for request in answers):
            partial.append(f"version {cut.version} ({cut.how}) answered before it was there whole")
        if not answers:
            broken += (f"version {cut.version} ({cut.how}) was never followed, though it was whole at last",)
    partial += [f"the cache holds {name[:12]} with the content of {found[:12]}" for name, found in seen.cached.items() if name != found]
    partial += seen.differing
    if not seen.scored:
        broken += ("no answer was recomputed, so nothing was compared",)
    measured = f"{len(seen.cuts)} cut points, {len(partial)} partial, {seen.scored} answers recomputed, {len(seen.requests)} requests"
    return Finding(measured, broken + few(partial))


def _cut(home: Home, digest: str, package: Package, number: int, chance: random.Random) -> str:
    """Lay down a part of a package; every so often one that is slow, or none at all."""
    place = home.path / "packages" / digest
    if number % 10 == 9:
        return "nothing there"
    place.mkdir(parents=True)
    which = chance.randrange(3) if number % 4 == 3 else 0
    content = package[which]
    at = chance.randrange(len(content))
    for name, part in zip(_NAMES[:which], package[:which], strict=True):
        (place / name).write_bytes(part)
    if which == 0:  # what a copy that goes by name would bring first is there, the large file is not
        (place / _NAMES[1]).write_bytes(package.manifest)
        (place / _NAMES[2]).write_bytes(package.signature)
    if number % 10 == 4:
        os.mkfifo(place / _NAMES[which])
        return f"{_NAMES[which]} is a pipe that nobody writes to"
    (place / _NAMES[which]).write_bytes(content[:at])
    return f"{_NAMES[which]} cut at byte {at}"


def _finish(home: Home, digest: str, package: Package) -> None:
    place = home.path / "packages" / digest
    for path in place.glob("*") if place.is_dir() else ():
        if path.is_fifo():
            # Whoever waits at the pipe gets its end, as from a store that closes the connection.
            with suppress(OSError):  # nobody waits
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    shutil.rmtree(place, ignore_errors=True)
    home.lab.packages.put(*package)


def _await_version(predict: Callable[[bytes], tuple[int, bytes]], home: Home, version: int) -> None:
    body = home.bodies.read_bytes().splitlines()[0]
    wanted = f'"model_version":{version},'.encode()
    deadline = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline:
        status, answer = predict(body)
        if status == 200 and wanted in answer:
            time.sleep(0.05)  # until the load has met it too
            return
        time.sleep(0.02)


def _cached(home: Home) -> dict[str, str]:
    found = {}
    for path in (home.path / "serving" / "replica-1" / "cache").glob("*/scorer.json"):
        if len(path.parent.name) == 64:
            found[path.parent.name] = sha256(path.read_bytes())
    return found


def _recompute(stored: Stored, whole: Mapping[int, bytes], chance: random.Random) -> tuple[list[str], int]:
    """Score some logged rows of each version with the scorer that was published, read in this process."""
    differing, scored = [], 0
    by_version: dict[int, list[dict[str, object]]] = {}
    for frame in stored.predictions:
        by_version.setdefault(int(frame["model_version"]), []).extend(frame["rows"])
    for version, rows in by_version.items():
        scorer = Scorer.from_bytes(whole[version])
        for row in chance.sample(rows, min(20, len(rows))):
            values, probability = row["features"], row["probability"]
            assert isinstance(values, list)
            assert isinstance(probability, float)
            scored += 1
            if abs(scorer.score_one(values) - probability) > _REASONABLE:
                differing.append(f"prediction {row['prediction_id']} of version {version} is not what the whole scorer answers")
    return differing, scored


@dataclass(frozen=True)
class Tampering:
    """One package that is not what it should be: its version, how, its digest, since when it was named champion (monotonic ns)."""

    version: int
    how: str
    digest: str
    named_ns: int


@dataclass(frozen=True)
class Tampered:
    """The evidence of F5: history, log with its incident frames, what was done, what is cached, and who answered at the very end."""

    requests: Sequence[Request]
    stored: Stored
    tamperings: Sequence[Tampering]
    cached: Mapping[str, str]
    good_version: int


def run_tampering(world: World, seed: int, size: Size) -> Tampered:
    """Promote one tampered package after the other; the last one is sound."""
    chance, home = random.Random(seed), world.home()
    history = home.path / "history.jsonl"
    foreign = Ed25519PrivateKey.from_private_bytes(chance.randbytes(32))
    done: list[Tampering] = []
    with home.replica(follow_s=_FOLLOW_S) as replica:
        replica.start()
        plan = Plan((replica.port,), str(history), str(home.bodies), connections=2, pause_ms=10, seed=seed)
        with Client(plan) as client:
            client.await_answers()
            seen = 0
            for number in range(size.of(20, 500)):
                package = home.package(home.variant(number + 1))
                digest = sha256(package.scorer)
                how = list(_TAMPERINGS)[number % len(_TAMPERINGS)]
                _lay(home, digest, _TAMPERINGS[how](package, home, foreign, chance))
                version = home.register(digest)
                at = time.monotonic_ns()
                home.promote(version)
                seen = _await_incident(home, seen, digest)
                done.append(Tampering(version, how, digest, at))
            cached = _cached(home)
            good = home.publish(home.variant(100_000))
            home.promote(good)
            _await_version(replica.predict, home, good)
            client.stop()
        replica.end()
    return Tampered(read_history(history), read_logs([home.log()]), done, cached, good)


def check_tampering(seen: Tampered) -> Finding:
    """None of them ever answers, each is told as an incident, none is cached, the old one serves until a sound one comes."""
    broken = failures(seen.requests) + unlogged(seen.requests, seen.stored)
    bad = {tampering.version: tampering for tampering in seen.tamperings}
    answered = {request.version for request in seen.requests}
    broken += few([f"version {v} ({t.how}) answered" for v, t in bad.items() if v in answered])
    told = " ".join(str(incident) for incident in seen.stored.incidents)
    silent = [f"version {v} ({t.how}) was refused without an incident in the log" for v, t in bad.items() if t.digest[:12] not in told]
    broken += few(silent)
    broken += few([f"the cache holds the tampered {t.digest[:12]} ({t.how})" for t in bad.values() if t.digest in seen.cached])
    if seen.good_version not in answered:
        broken += (f"the sound version {seen.good_version} did not answer after them",)
    refused = len(bad) - len([v for v in bad if v in answered])
    measured = f"{refused} of {len(bad)} refused, {len(bad) - len(silent)} told, {len(seen.requests)} requests"
    return Finding(measured, broken)


Tamper = Callable[[Package, Home, Ed25519PrivateKey, random.Random], Package]


def _flipped(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _signed_by(package: Package, key: Ed25519PrivateKey, **changes: str) -> Package:
    manifest = replace(Manifest.from_bytes(package.manifest), **changes)
    return package._replace(manifest=manifest.to_bytes(), signature=sign(manifest, key))


def _other(home: Home, chance: random.Random) -> Package:
    return home.package(home.variant(200_000 + chance.randrange(100)))


_TAMPERINGS: dict[str, Tamper] = {
    "one bit of the scorer": lambda p, home, key, chance: p._replace(scorer=_flipped(p.scorer, chance)),
    "one bit of the manifest": lambda p, home, key, chance: p._replace(manifest=_flipped(p.manifest, chance)),
    "one bit of the signature": lambda p, home, key, chance: p._replace(signature=_flipped(p.signature, chance)),
    "scorer cut short": lambda p, home, key, chance: p._replace(scorer=p.scorer[: chance.randrange(len(p.scorer))]),
    "scorer of another version": lambda p, home, key, chance: p._replace(scorer=_other(home, chance).scorer),
    "another version, soundly signed": lambda p, home, key, chance: _other(home, chance),
    "signed by somebody else": lambda p, home, key, chance: _signed_by(p, key),
    "changed, and signed by somebody else": lambda p, home, key, chance: _signed_by(
        p._replace(scorer=p.scorer + b" "), key, scorer_sha256=sha256(p.scorer + b" ")
    ),
    "no signature": lambda p, home, key, chance: p._replace(signature=b""),
    "a pickle": lambda p, home, key, chance: p._replace(scorer=b"\x80\x04c__builtin__\neval\n(S'1/0'\ntR."),
}


def _lay(home: Home, digest: str, package: Package) -> None:
    place = home.path / "packages" / digest
    place.mkdir(parents=True)
    for name, content in zip(_NAMES, package, strict=True):
        (place / name).write_bytes(content)


def _await_incident(home: Home, known: int, digest: str, within_s: float = 1.5) -> int:
    """Until the log tells of this package, or long enough for it to have been tried. Returns the bytes of the log looked at."""
    newest = max(home.log().glob("*.log"))
    deadline = time.monotonic() + within_s
    start = max(0, min(known, newest.stat().st_size) - 4096)
    while time.monotonic() < deadline:
        content = _tail(newest, start)
        if b'"incident"' in content and digest[:12].encode() in content:
            break
        time.sleep(0.03)
    return newest.stat().st_size


def _tail(path: Path, start: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read()


F3 = Fault(
    "F3",
    "store cut in mid-download",
    "Versions are promoted of which the store holds only a part, nothing, or a pipe that never ends; then the whole.",
    "No partial model ever answers or is cached, the old one serves on, and the whole one is followed.",
    "200 cut points, 0 partial",
    run_cuts,
    check_cuts,
)
F5 = Fault(
    "F5",
    "tampered packages",
    "Packages are promoted whose bytes were changed, swapped, cut, or signed by somebody else.",
    "Refused before they are parsed, the old model stays, and each leaves an incident for the audit.",
    "500 of 500 refused and told",
    run_tampering,
    check_tampering,
)
