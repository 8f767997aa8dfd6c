"""The ledger's specification, repeated on a real PostgreSQL."""

import pytest

from spec.test_ledger import *  # noqa: F403

pytestmark = pytest.mark.usefixtures("homes_on_postgres")

del test_a_ledger_file_that_was_removed_is_down_and_one_that_was_put_back_is_followed  # noqa: F821  speaks of files
