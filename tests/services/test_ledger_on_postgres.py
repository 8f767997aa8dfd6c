"""The ledger's specification, repeated on a real PostgreSQL."""

import pytest

from spec.ledger.conftest import ledger  # noqa: F401  the fixture that the specification asks for
from spec.ledger.test_accounts import *  # noqa: F403
from spec.ledger.test_assignments import *  # noqa: F403
from spec.ledger.test_facts import *  # noqa: F403
from spec.ledger.test_races import *  # noqa: F403
from spec.ledger.test_readers import *  # noqa: F403
from spec.ledger.test_rollback import *  # noqa: F403
from spec.ledger.test_versions import *  # noqa: F403

pytestmark = pytest.mark.usefixtures("homes_on_postgres")

del test_a_ledger_file_that_was_removed_is_down_and_one_that_was_put_back_is_followed  # noqa: F821  speaks of files
