"""The audit trail's specification, repeated on a real PostgreSQL."""

import pytest

from spec.audit.test_record import *  # noqa: F403
from spec.audit.test_tampering import *  # noqa: F403

pytestmark = pytest.mark.usefixtures("homes_on_postgres")

del test_a_database_that_is_none_is_said_to_be_unreachable  # noqa: F821  speaks of files
