"""Batches and snapshots, the tables they go to, the log of predictions and its labels."""

from mlops_lab.data.digest import content_digest
from mlops_lab.data.label import Labelled, join, outcomes_schema
from mlops_lab.data.port import Filter, Pin, SnapshotBook, Tables
from mlops_lab.data.prediction import predictions_schema
from mlops_lab.data.quarantine import Quarantine, Refused
from mlops_lab.data.schema import Column, TableSchema
from mlops_lab.data.shipping import Shipped, Shipper
from mlops_lab.data.snapshot import Batch, Snapshot
from mlops_lab.data.snapshots import Snapshots

__all__ = [
    "Batch",
    "Column",
    "Filter",
    "Labelled",
    "Pin",
    "Quarantine",
    "Refused",
    "Shipped",
    "Shipper",
    "Snapshot",
    "SnapshotBook",
    "Snapshots",
    "TableSchema",
    "Tables",
    "content_digest",
    "join",
    "outcomes_schema",
    "predictions_schema",
]
