"""A ledger of the test's own."""

from pathlib import Path

import pytest

from ledger_builders import a_ledger
from mlops_lab.registry.on_sql import SqlLedger


@pytest.fixture
def ledger(tmp_path: Path) -> SqlLedger:
    return a_ledger(tmp_path)
