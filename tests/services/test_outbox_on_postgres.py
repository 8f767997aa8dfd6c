"""The outbox's specification, repeated on a real PostgreSQL."""

import pytest

from spec.events.test_outbox import *  # noqa: F403

pytestmark = pytest.mark.usefixtures("homes_on_postgres")
