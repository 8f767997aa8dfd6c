"""Where refused batches wait: the raw files as they came, the verdict as data, and a report to read."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mlops_lab.clock import from_iso, iso
from mlops_lab.errors import StoreUnreachable, UnknownName


@dataclass(frozen=True, slots=True)
class Refused:
    """One refusal.

    Attributes:
        batch: The batch's name.
        digest: Content digest of what was refused (of the raw files where they could not be read as tables).
        refused_at: Event time.
        verdict: The gate's, as JSON object.
        folder: Holds `verdict.json`, `report.html` and `raw/`.
    """

    batch: str
    digest: str
    refused_at: datetime
    verdict: dict[str, Any]
    folder: Path

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def raw(self) -> Path:
        return self.folder / "raw"


class Quarantine:
    """One folder per batch and content, made in one step: a refusal is there with all its parts or not at all."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, batch: str, digest: str, verdict: Mapping[str, Any], report: str, at: datetime, raw: Path | None = None) -> Refused:
        """Keep a refusal. The same content of the same batch again changes nothing.

        Args:
            batch: A name that can be a folder's: letters, digits, `-`, `_` and `.`.
            digest: Hexadecimal.
            verdict: JSON-able; NaN is refused.
            report: HTML.
            at: Event time.
            raw: The folder the batch came in; copied. None where it came as objects.

        Raises:
            UnknownName: The name cannot be a folder's.
            StoreUnreachable: The disk refuses.
        """
        folder = self._folder(batch) / digest[:12]
        if folder.exists():
            return _read(folder)
        record = {"batch": batch, "digest": digest, "refused_at": iso(at), "verdict": dict(verdict)}
        text = json.dumps(record, indent=1, sort_keys=True, allow_nan=False)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder.parent))
            try:
                (draft / "verdict.json").write_text(text + "\n", encoding="utf-8")
                (draft / "report.html").write_text(report, encoding="utf-8")
                if raw is not None:
                    shutil.copytree(raw, draft / "raw")
                draft.chmod(0o755)
                draft.rename(folder)
            except OSError:
                shutil.rmtree(draft, ignore_errors=True)
                if not folder.exists():  # else another process kept the same refusal first
                    raise
        except OSError as error:
            raise StoreUnreachable.at(str(folder), str(error)) from error
        return _read(folder)

    def get(self, batch: str) -> Refused:
        """The last refusal of a batch. Raises UnknownName where it was never refused."""
        found = [refused for refused in self.all() if refused.batch == batch]
        if not found:
            raise UnknownName.of("refused batch", batch, {refused.batch for refused in self.all()} or {"(none was refused)"})
        return found[-1]

    def all(self) -> tuple[Refused, ...]:
        """Every refusal, by event time."""
        folders = [path.parent for path in self._root.glob("*/*/verdict.json") if not path.parent.name.startswith(".")]
        return tuple(sorted((_read(folder) for folder in folders), key=lambda refused: (refused.refused_at, refused.batch, refused.digest)))

    def _folder(self, batch: str) -> Path:
        if not batch or batch.startswith(".") or not all(letter.isalnum() or letter in "-_." for letter in batch):
            raise UnknownName(f"'{batch}' cannot be the name of a batch.", "use letters, digits, '-', '_' and '.'.")
        return self._root / batch


def _read(folder: Path) -> Refused:
    path = folder / "verdict.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return Refused(str(record["batch"]), str(record["digest"]), from_iso(record["refused_at"]), dict(record["verdict"]), folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreUnreachable.at(str(path), f"it is not the record of a refusal ({error})") from error
