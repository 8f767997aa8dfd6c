"""The whole run: `make bench`, or `make bench ARGS=--quick` for a look at the harness whose figures mean nothing.

Servers are measured in turns (ours, echo, MLflow, ours, echo, ...), each on the second core, with the load on the first. Answers of ours
and of MLflow's are compared before anything is timed. Afterwards every 200 of ours must be in the log exactly once, also after a `kill -9`
under load in each configuration; otherwise the run ends with an error and writes nothing.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

from benchmarks.serving import servers
from benchmarks.serving.evidence import NotInTheLog, Witness, answered
from benchmarks.serving.figures import Round, Spread, ratio
from benchmarks.serving.load import Unmeasurable, body_of, drive, request
from benchmarks.serving.material import Material
from benchmarks.serving.report import about_this_machine, write
from benchmarks.serving.servers import Kind, Server
from mlops_lab.serving.prediction_log import read_frames
from mlops_lab.settings import ServiceSettings

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "tests" / "benchmarks" / "results"
CACHE = ROOT / "runs" / "bench"

BATCH = 64
MANY = 8
TOLERANCE = 1e-6
COMPARED = 256
"""So many flights are asked one by one at both servers before anything is timed; all of them in batches."""

TRIAL_WITHIN_S = 8.0
"""A shadow or canary that was dealt nothing by then is none."""


@dataclass(frozen=True)
class Plan:
    """How long and how often. MLflow takes part in every other round: it needs the time of fifty of the others."""

    rounds: int = 5
    single_s: float = 2.5
    alone_s: float = 1.2
    batch_s: float = 1.5
    mlflow_s: float = 4.0
    mode_s: float = 2.0
    starts: int = 5
    warm_s: float = 1.0
    kill_after_s: float = 0.7

    @classmethod
    def quick(cls) -> "Plan":
        return cls(2, 1.0, 0.5, 0.5, 1.0, 1.0, 1, 0.3, 0.4)


@dataclass
class Bodies:
    """The same flights as each server wants them: whole requests, one row or 64."""

    single: dict[str, list[bytes]] = field(default_factory=dict)
    batch: dict[str, list[bytes]] = field(default_factory=dict)


class Bench:
    """One run in one scratch folder."""

    def __init__(self, material: Material, plan: Plan, cores: tuple[int, int]) -> None:
        self.material, self.plan = material, plan
        self._load_core, self._server_core = cores
        self._began = time.perf_counter()
        self.items = material.items()
        self.bodies = Bodies()
        singles, batches = [json.dumps(item).encode() for item in self.items], _batches(self.items)
        self.bodies.single["ours"] = [request("/v1/predict", body) for body in singles]
        self.bodies.batch["ours"] = [request("/v1/predict", json.dumps({"items": batch}).encode()) for batch in batches]
        self.bodies.single["echo"] = self.bodies.single["hello"] = [request("/predict", body) for body in singles]
        self.found: dict[str, Any] = {"rounds": {}, "evidence": {}}

    def say(self, text: str) -> None:
        passed = int(time.perf_counter() - self._began)
        print(f"[{passed // 60}:{passed % 60:02d}] {text}", flush=True)

    @contextmanager
    def serving(self, kind: Kind, first: bytes) -> Iterator[Server]:
        server = Server(kind, self._server_core, self.material.run, first)
        try:
            yield server
        finally:
            server.stop()

    def ours(self, name: str) -> Kind:
        durability = disk_durability() if name == "disk" else "process"
        return servers.ours(name, self.material.home(name), durability)

    def log_of(self, name: str) -> Path:
        return self.material.home(name) / "serving" / ServiceSettings().replica / "log"

    def first_of(self, kind: str) -> bytes:
        return self.bodies.single[kind if kind in ("mlflow", "echo", "hello") else "ours"][0]

    def compare_answers(self) -> None:
        """Ask both about the same flights; MLflow gets the features that our service computed and logged for the very flight.

        Raises:
            NotInTheLog: An answer of ours is not in the log.
            Unmeasurable: Two answers differ.
        """
        with self.serving(self.ours("default"), self.bodies.single["ours"][0]) as server:
            witness = Witness(self.log_of("default"))
            witness.skip()
            replies = drive_all(server.port, self.bodies.single["ours"])
            witness.examine(replies)
            rows = {row["prediction_id"]: row for _, frame in read_frames(self.log_of("default")) for row in frame.get("rows", ())}
            names = [feature["name"] for feature in json.loads(self.material.scorer.read_bytes())["features"]]
        ours = [probability for _, probability in answered(replies)]
        logged = [rows[identifier]["features"] for identifier, _ in answered(replies)]
        self.material.rows.write_text(json.dumps(logged))
        records = [dict(zip(names, values, strict=True)) for values in logged]
        self.bodies.single["mlflow"] = [request("/invocations", _records([record])) for record in records]
        self.bodies.batch["mlflow"] = [request("/invocations", _records(batch)) for batch in _batches(records)]
        with self.serving(servers.mlflow(self.material.reference), self.bodies.single["mlflow"][0]) as server:
            single = [_probabilities(reply)[0] for reply in drive_all(server.port, self.bodies.single["mlflow"][:COMPARED])]
            batched = [p for reply in drive_all(server.port, self.bodies.batch["mlflow"]) for p in _probabilities(reply)]
        worst = max(abs(a - b) for theirs in (single, batched) for a, b in zip(ours, theirs, strict=False))
        nulls = sum(any(value is None for value in values) for values in logged)
        if not worst <= TOLERANCE:
            raise Unmeasurable(f"Our answers differ from MLflow's by up to {worst:.3g}; {TOLERANCE:g} is allowed.")
        self.found["parity"] = {
            "flights": len(batched),
            "one_by_one": len(single),
            "with_a_null": nulls,
            "distinct_answers": len(set(ours)),
            "largest_difference": worst,
        }
        self.say(f"answers of {len(batched)} flights ({nulls} with a missing value) agree within {worst:.1e}")

    def time_starts(self) -> None:
        """First answer after process start, in turns."""
        took: dict[str, list[float]] = {"ours": [], "echo": [], "mlflow": []}
        for _ in range(self.plan.starts):
            for name, kind in (("ours", self.ours("default")), ("echo", servers.reference("echo")), ("mlflow", self.mlflow)):
                with self.serving(kind, self.first_of(kind.name)) as server:
                    took[name].append(server.first_answer_s)
        self.found["first_answer_s"] = {name: Spread.over(values).to_dict() for name, values in took.items()}
        self.found["first_answer_to_mlflow"] = ratio(took["ours"], took["mlflow"]).to_dict()
        self.say("first answers: " + ", ".join(f"{name} {min(values):.2f} to {max(values):.2f} s" for name, values in took.items()))

    @property
    def mlflow(self) -> Kind:
        return servers.mlflow(self.material.reference)

    def compare_servers(self) -> None:
        """Ours, echo, hello and MLflow: 8 connections, 1 connection, batches; and what they occupy afterwards."""
        kinds = [self.ours("default"), servers.reference("echo"), servers.reference("hello"), self.mlflow]
        with ExitStack() as stack:
            running = {kind.name: stack.enter_context(self.serving(kind, self.first_of(kind.name))) for kind in kinds}
            witness = Witness(self.log_of("default"))
            witness.skip()
            for name, server in running.items():
                for rows in (BATCH, 1) if name in ("default", "mlflow") else (1,):
                    load = drive(server.port, self._requests(name, rows), MANY, self.plan.warm_s)
                    if name == "default":
                        witness.examine(load.replies)
            plan = self.plan
            for load, connections, rows, seconds, taking_part in (
                ("c8", MANY, 1, plan.single_s, ("default", "echo", "hello", "mlflow")),
                ("c1", 1, 1, plan.alone_s, ("default", "echo", "mlflow")),
                ("batch64", MANY, BATCH, plan.batch_s, ("default", "mlflow")),
            ):
                for number in range(plan.rounds):
                    for name in taking_part:
                        if name == "mlflow" and number % 2:
                            continue
                        lasts = plan.mlflow_s if name == "mlflow" else seconds
                        self._round(load, running[name], name, rows, connections, lasts, witness if name == "default" else None)
                self._tell(load)
            self.found["resident_mib"] = {name: round(server.resident_mib(), 1) for name, server in running.items()}
            self.found["evidence"]["default"] = {"answers": witness.answers}
        self.say(f"every one of {witness.answers} answers is in the log exactly once")

    def compare_modes(self) -> None:
        """The default beside `durability=disk`, a shadow and a canary on 10 % of the requests, in turns."""
        with ExitStack() as stack:
            running, witnesses = {}, {}
            for name in ("default", "disk", "shadow", "canary"):
                running[name] = stack.enter_context(self.serving(self.ours(name), self.first_of(name)))
                witnesses[name] = Witness(self.log_of(name))
                self._warm(running[name], name, witnesses[name])
            absent = [name for name in ("shadow", "canary") if not witnesses[name].kinds[name]]
            for name in absent:
                self.say(f"{name}: the log shows that nothing was dealt to it, so it is left out")
                running[name].stop()
                del running[name]
            for _ in range(self.plan.rounds):
                for name, server in running.items():
                    self._round("modes", server, name, 1, MANY, self.plan.mode_s, witnesses[name])
            self._tell("modes")
            for name in running:
                kinds = witnesses[name].kinds
                rows = max(kinds["predictions"], 1)
                self.found["evidence"].setdefault(name, {"answers": 0})
                self.found["evidence"][name]["answers"] += witnesses[name].answers
                self.found["evidence"][name] |= {"shadow_share": kinds["shadow"] / rows, "canary_share": kinds["canary"] / rows}
            self.found["modes_left_out"] = absent

    def _warm(self, server: Server, name: str, witness: Witness) -> None:
        """Load without a clock, until a trial is dealt its share: it is downloaded and tried beside the answers, and scores behind them."""
        until = time.perf_counter() + TRIAL_WITHIN_S
        witness.skip()
        witness.examine(drive(server.port, self.bodies.single["ours"], MANY, self.plan.warm_s).replies)
        while name in ("shadow", "canary") and not witness.kinds[name] and time.perf_counter() < until:
            witness.examine(drive(server.port, self.bodies.single["ours"], MANY, 0.2).replies)
            time.sleep(0.2)

    def kill_under_load(self) -> None:
        """`kill -9` under load in each configuration that was measured; after a restart every whole 200 is in the log."""
        for name in ("default", "disk", "shadow", "canary"):
            if name in self.found["modes_left_out"]:
                continue
            with self.serving(self.ours(name), self.first_of(name)) as server:
                witness = Witness(self.log_of(name))
                witness.skip()
                timer = threading.Timer(self.plan.kill_after_s, os.kill, (server.pid, signal.SIGKILL))
                timer.start()
                load = drive(server.port, self.bodies.single["ours"], MANY, 30, until_death=True)
                timer.join()
            if load.lost != MANY or not load.replies:
                raise Unmeasurable(f"{name} was not killed under load: {load.lost} connections lost, {len(load.replies)} replies.")
            with self.serving(self.ours(name), self.first_of(name)) as server:
                witness.examine(load.replies, unanswered=MANY + 1)  # the restart's own first request is one
            self.found["evidence"][name] |= {"answers_before_kill": len(load.replies), "again_after_kill_s": server.first_answer_s}
            self.say(f"{name}: killed under load after {len(load.replies)} answers; all are in the log exactly once")

    def look_inside(self) -> None:
        """Where a request's time goes at 8 connections, and what the scorer alone takes, both on the servers' core."""
        material = self.material
        words = (str(material.scorer), str(material.rows), str(self.plan.rounds))
        argv = [sys.executable, "-m", "benchmarks.serving.scorer", *words]
        done = subprocess.run(argv, stdout=subprocess.PIPE, check=True, preexec_fn=lambda: os.sched_setaffinity(0, {self._server_core}))
        self.found["scorer_us"] = Spread.over(json.loads(done.stdout)).to_dict()
        report = material.run / "stages.json"
        with self.serving(servers.watched(material.home("default"), report), self.first_of("ours")) as server:
            drive(server.port, self.bodies.single["ours"], MANY, self.plan.warm_s)
            used = server.cpu_s()
            load = drive(server.port, self.bodies.single["ours"], MANY, self.plan.single_s)
            cpu_us = (server.cpu_s() - used) / len(load.replies) * 1e6
        if not report.is_file():
            raise Unmeasurable("The watched service wrote no stages: see stages.py.")
        self.found["inside"] = {**json.loads(report.read_text()), "cpu_us": cpu_us}
        if self.found["inside"]["idle"]:
            idle = ", ".join(self.found["inside"]["idle"])
            raise Unmeasurable(f"The stopwatch sits where requests do not pass ({idle}): correct STAGES in stages.py.")
        stages = self.found["inside"]["us"]
        self.say(f"one request: {sum(stages.values()):.0f} µs in its stages, {cpu_us:.0f} µs of the process under the stopwatch")
        self.say(f"scorer: {self.found['scorer_us']['median']:.1f} µs for one row")

    def results(self) -> dict[str, Any]:
        """Everything, with the headline figures at the top."""
        rounds = self.found["rounds"]

        def of(load: str, name: str, what: str) -> list[float]:
            return [getattr(one, what) for one in rounds[load][name]]

        mlflow_at = [number for number in range(self.plan.rounds) if number % 2 == 0]
        spread = {
            "ratio_to_mlflow_c8": ratio([of("c8", "default", "per_s")[i] for i in mlflow_at], of("c8", "mlflow", "per_s")),
            "ratio_to_echo_c8": ratio(of("c8", "default", "per_s"), of("c8", "echo", "per_s")),
            "ratio_to_hello_c8": ratio(of("c8", "default", "per_s"), of("c8", "hello", "per_s")),
            "p99_to_echo_c8": ratio(of("c8", "default", "p99_ms"), of("c8", "echo", "p99_ms")),
            "cpu_to_echo_c8": ratio(of("c8", "default", "cpu_us"), of("c8", "echo", "cpu_us")),
            "ratio_to_mlflow_c1": ratio([of("c1", "default", "per_s")[i] for i in mlflow_at], of("c1", "mlflow", "per_s")),
            "ratio_to_echo_c1": ratio(of("c1", "default", "per_s"), of("c1", "echo", "per_s")),
            "batch64_to_mlflow": ratio([of("batch64", "default", "per_s")[i] for i in mlflow_at], of("batch64", "mlflow", "per_s")),
        }
        for name in rounds["modes"]:
            if name != "default":
                spread[f"{name}_to_default_c8"] = ratio(of("modes", name, "per_s"), of("modes", "default", "per_s"))
                spread[f"{name}_p99_to_default_c8"] = ratio(of("modes", name, "p99_ms"), of("modes", "default", "p99_ms"))
        spreads = {name: one.to_dict() for name, one in spread.items()}
        spreads["first_answer_to_mlflow"] = self.found["first_answer_to_mlflow"]
        spreads["scorer_us"] = self.found["scorer_us"]
        headline = {name: one["median"] for name, one in spreads.items()}
        headline["rss_mib"] = self.found["resident_mib"]["default"]
        table = {load: {name: [asdict(one) for one in ones] for name, ones in by_name.items()} for load, by_name in rounds.items()}
        return headline | {
            "spread": spreads,
            "rounds": table,
            **{name: self.found[name] for name in ("parity", "first_answer_s", "resident_mib", "evidence", "modes_left_out", "inside")},
        }

    def _requests(self, name: str, rows: int) -> list[bytes]:
        which = name if name in ("mlflow", "echo", "hello") else "ours"
        return (self.bodies.single if rows == 1 else self.bodies.batch)[which]

    def _round(self, load: str, server: Server, name: str, rows: int, connections: int, seconds: float, witness: Witness | None) -> None:
        used, (_, idle) = server.cpu_s(), servers.core_s(self._server_core)
        done = drive(server.port, self._requests(name, rows), connections, seconds)
        one = Round.of(done, server.cpu_s() - used, servers.core_s(self._server_core)[1] - idle)
        self.found["rounds"].setdefault(load, {}).setdefault(name, []).append(one)
        if witness is not None:
            witness.examine(done.replies)

    def _tell(self, load: str) -> None:
        for name, rounds in self.found["rounds"][load].items():
            per_s = Spread.over([one.per_s for one in rounds])
            p99 = Spread.over([one.p99_ms for one in rounds]).median
            server, idle, load_used = (
                Spread.over([getattr(one, what) for one in rounds]).median for what in ("server_share", "idle_share", "load_share")
            )
            self.say(
                f"{load:8} {name:8} {per_s.median:8.0f}/s ({per_s.smallest:.0f} to {per_s.largest:.0f})  p99 {p99:7.2f} ms"
                f"  server {server:4.0%} of its core, idle {idle:4.0%}, load {load_used:4.0%} of the other"
            )


def drive_all(port: int, requests: Sequence[bytes]) -> list[bytes]:
    """Each request once, one after the other; the replies in that order."""
    return [reply for one in requests for reply in drive(port, [one], 1, 0).replies]


def disk_durability() -> str:
    """What the setting is called that waits for the disk."""
    names: tuple[str, ...] = get_args(ServiceSettings.model_fields["durability"].annotation)
    return next(name for name in names if name != "process")


def _batches(rows: Sequence[Any]) -> list[list[Any]]:
    return [list(rows[i : i + BATCH]) for i in range(0, len(rows) - BATCH + 1, BATCH)]


def _records(records: Sequence[Any]) -> bytes:
    return json.dumps({"dataframe_records": list(records)}).encode()


def _probabilities(reply: bytes) -> list[float]:
    return [pair[1] for pair in json.loads(body_of(reply))["predictions"]]


def prepare(cache: Path, run: Path, say: Callable[[str], None]) -> Material:
    """Fit if needed and make the homes, in another process."""
    say("making ready what is served: the fit is kept for the next run")
    argv = [sys.executable, "-m", "benchmarks.serving.material", str(cache), str(run), str(ROOT / "data" / "nycflights13")]
    env = {name: value for name, value in os.environ.items() if not name.startswith("LAB_")} | servers.QUIET
    subprocess.run(argv, env=env, check=True, stderr=None if os.environ.get("BENCH_VERBOSE") else subprocess.DEVNULL)
    return Material(Path((run / "reference.txt").read_text()), run)


def main() -> int:
    """Measure, prove, write."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="rounds of a second: tries the harness, and writes to runs/bench/quick")
    parser.add_argument("--out", type=Path, help="folder for serving.md and serving.json (default: tests/benchmarks/results)")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder that keeps the fit")
    asked = parser.parse_args()
    plan = Plan.quick() if asked.quick else Plan()
    out = asked.out or (asked.cache / "quick" if asked.quick else RESULTS)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # leaves by the same doors as Ctrl-C
    began = time.perf_counter()
    asked.cache.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="run-", dir=asked.cache))
    try:
        cores = servers.two_cores()
        machine = about_this_machine(ROOT)
        os.sched_setaffinity(0, {cores[0]})
        material = prepare(asked.cache.resolve(), (scratch / "homes").resolve(), lambda text: print(f"[0:00] {text}", flush=True))
        bench = Bench(material, plan, cores)
        for step in (
            bench.compare_answers,
            bench.look_inside,
            bench.time_starts,
            bench.compare_servers,
            bench.compare_modes,
            bench.kill_under_load,
        ):
            step()
        took = time.perf_counter() - began
        write(out, bench.results(), machine | {"took_s": round(took, 1), "quick": asked.quick})
        bench.say(f"written: {os.path.relpath(out / 'serving.md')}, in {took:.0f} s")
    except (NotInTheLog, Unmeasurable, subprocess.CalledProcessError) as error:
        print(f"The run does not count, and nothing was written: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped; nothing was written.", file=sys.stderr)
        return 130
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
