"""F5: packages are tampered with, against a process that serves meanwhile."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mlops_lab.chaos.client import Client
from mlops_lab.chaos.fault import Fault, Finding, Size, few
from mlops_lab.chaos.history import Request, failures, read_history
from mlops_lab.chaos.load import Plan
from mlops_lab.chaos.packages import FOLLOW_S, NAMES, await_version, in_cache
from mlops_lab.chaos.stored import Stored, read_logs, unlogged
from mlops_lab.chaos.world import Home, World
from mlops_lab.scoring.manifest import Manifest, sha256, sign
from mlops_lab.scoring.store import Package


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
    with home.replica(follow_s=FOLLOW_S) as replica:
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
            cached = in_cache(home)
            good = home.publish(home.variant(100_000))
            home.promote(good)
            await_version(replica.predict, home, good)
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
    for name, content in zip(NAMES, package, strict=True):
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


F5 = Fault(
    "F5",
    "tampered packages",
    "Packages are promoted whose bytes were changed, swapped, cut, or signed by somebody else.",
    "Refused before they are parsed, the old model stays, and each leaves an incident for the audit.",
    "500 of 500 refused and told",
    run_tampering,
    check_tampering,
)
