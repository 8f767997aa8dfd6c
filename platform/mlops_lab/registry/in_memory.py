"""The model catalog in memory: the twin of MLflow for labs and tests, gone with its process."""

import threading
from itertools import count

from mlops_lab.errors import UnknownVersion
from mlops_lab.registry.candidate import Candidate
from mlops_lab.registry.catalog import Registered, require_own
from mlops_lab.scoring.store import Package


class InMemoryCatalog:
    """Keeps registry.catalog.Catalog."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._lock = threading.Lock()
        self._numbers = count(1)
        self._candidates: dict[int, Candidate] = {}
        self._tags: dict[int, dict[str, str]] = {}
        self._alias: int | None = None

    @property
    def model(self) -> str:
        return self._model

    def register(self, candidate: Candidate) -> Registered:
        require_own(self._model, candidate)
        with self._lock:
            for number, known in self._candidates.items():
                if known.order_id == candidate.order_id:
                    return Registered(number, _run_id(number))
            number = next(self._numbers)
            self._candidates[number] = candidate
            self._tags[number] = candidate.facts()
            return Registered(number, _run_id(number))

    def versions(self) -> tuple[int, ...]:
        return tuple(sorted(self._candidates))

    def tags(self, version: int) -> dict[str, str]:
        self._require(version)
        return dict(self._tags[version])

    def metrics(self, version: int) -> dict[str, float]:
        self._require(version)
        return self._candidates[version].evaluation.metrics()

    def tag(self, version: int, key: str, value: str) -> None:
        self._require(version)
        self._tags[version][key] = value

    def package(self, version: int) -> Package:
        self._require(version)
        return self._candidates[version].package

    def project_alias(self, version: int | None) -> None:
        if version is not None:
            self._require(version)
        self._alias = version

    def alias(self) -> int | None:
        return self._alias

    def _require(self, version: int) -> None:
        if version not in self._candidates:
            raise UnknownVersion.of(self._model, version, self.versions())


def _run_id(number: int) -> str:
    return f"run-{number}"
