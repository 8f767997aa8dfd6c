"""F3: the store is cut in mid-download, against a process that serves meanwhile."""

import os
import random
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from mlops_lab.chaos.client import Client
from mlops_lab.chaos.fault import Fault, Finding, Size, few
from mlops_lab.chaos.history import Request, failures, read_history
from mlops_lab.chaos.load import Plan
from mlops_lab.chaos.packages import FOLLOW_S, NAMES, await_version, in_cache
from mlops_lab.chaos.stored import Stored, read_logs, unlogged
from mlops_lab.chaos.world import Home, World
from mlops_lab.scoring.manifest import sha256
from mlops_lab.scoring.scorer import Scorer
from mlops_lab.scoring.store import Package

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
    with home.replica(follow_s=FOLLOW_S) as replica:
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
                await_version(replica.predict, home, version)
                cuts.append(Cut(version, how, cut, done))
                cached |= in_cache(home)
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
    for name, part in zip(NAMES[:which], package[:which], strict=True):
        (place / name).write_bytes(part)
    if which == 0:  # what a copy that goes by name would bring first is there, the large file is not
        (place / NAMES[1]).write_bytes(package.manifest)
        (place / NAMES[2]).write_bytes(package.signature)
    if number % 10 == 4:
        os.mkfifo(place / NAMES[which])
        return f"{NAMES[which]} is a pipe that nobody writes to"
    (place / NAMES[which]).write_bytes(content[:at])
    return f"{NAMES[which]} cut at byte {at}"


def _finish(home: Home, digest: str, package: Package) -> None:
    place = home.path / "packages" / digest
    for path in place.glob("*") if place.is_dir() else ():
        if path.is_fifo():
            # Whoever waits at the pipe gets its end, as from a store that closes the connection.
            with suppress(OSError):  # nobody waits
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    shutil.rmtree(place, ignore_errors=True)
    home.lab.packages.put(*package)


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


F3 = Fault(
    "F3",
    "store cut in mid-download",
    "Versions are promoted of which the store holds only a part, nothing, or a pipe that never ends; then the whole.",
    "No partial model ever answers or is cached, the old one serves on, and the whole one is followed.",
    "200 cut points, 0 partial",
    run_cuts,
    check_cuts,
)
