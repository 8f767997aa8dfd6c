"""A batch through the gate: accepted into the tables, or refused into quarantine with the reasons. Never half in."""

from dataclasses import asdict
from pathlib import Path

from mlops_lab.bootstrap import Lab
from mlops_lab.data.batch_files import files_digest, read_batch
from mlops_lab.data.snapshot import Snapshot
from mlops_lab.errors import BatchUnreadable
from mlops_lab.events import Message
from mlops_lab.gates import report
from mlops_lab.gates.port import require
from mlops_lab.gates.verdict import Finding, Verdict
from mlops_lab.monitoring.window import Window
from mlops_lab.pipelines.orders import IngestBatch
from mlops_lab.pipelines.traced import step


@step("ingest batch")
def ingest(order: IngestBatch, lab: Lab) -> Snapshot:
    """Take in one batch.

    Raises:
        SnapshotRefused: The gate refused it; it is in quarantine with verdict, report and raw files.
        BatchConflict: Another content was accepted under this name.
    """
    folder = Path(order.folder)
    try:
        window = Window.of_week(order.window)
    except ValueError as error:
        raise BatchUnreadable(f"'{order.window}' is no ISO week.", "name it like 2013-W14.") from error
    try:
        batch = read_batch(folder, lab.use_case.tables, window.id, window.start, window.end)
    except BatchUnreadable as error:
        finding = Finding("the batch can be read", "(files)", False, True, 0, 0, error.what)
        unreadable = Verdict("batch", window.id, files_digest(folder), (finding,), {})
        _refuse(order, unreadable, lab)
        raise
    tables = lab.use_case.checked_tables(batch.tables)
    verdict = lab.gate.check(window.id, batch.digest, tables, lab.use_case.batch_expectations(batch))
    if not verdict.accepted:
        _refuse(order, verdict, lab)
    require(verdict)
    snapshot = lab.snapshots.accept(batch, verdict, order.at)
    lab.ledger.record(
        "gate_verdict",
        f"{window.id}/{verdict.digest[:12]}",
        verdict_record(verdict),
        at=order.at,
        by=order.by,
        why=f"accepted: {len(verdict.findings)} expectations held or only warned",
    )
    return snapshot


def verdict_record(verdict: Verdict) -> dict[str, object]:
    """A verdict for the ledger: findings in full, the framework's result by its presence only, since it is large."""
    return {
        "gate": verdict.gate,
        "subject": verdict.subject,
        "digest": verdict.digest,
        "accepted": verdict.accepted,
        "findings": [asdict(finding) for finding in verdict.findings if not finding.passed],
        "checked": len(verdict.findings),
    }


def _refuse(order: IngestBatch, verdict: Verdict, lab: Lab) -> None:
    folder = Path(order.folder)
    record = {**verdict_record(verdict), "result": verdict.result}
    refused = lab.quarantine.put(
        verdict.subject, verdict.digest, record, report.html(verdict), order.at, folder if folder.is_dir() else None
    )
    first = verdict.reasons[0].expectation if verdict.reasons else "nothing was checked"
    lab.ledger.record(
        "gate_verdict",
        f"{verdict.subject}/{verdict.digest[:12]}",
        verdict_record(verdict) | {"quarantine": str(refused.folder.relative_to(lab.home))},
        at=order.at,
        by=order.by,
        why=f"refused: {len(verdict.reasons)} of {len(verdict.findings)} expectations failed, first '{first}'",
        emit=(Message("SnapshotRefused", order.at, verdict.subject, {"reasons": [f.expectation for f in verdict.reasons]}),),
    )
