"""Approval's specification, repeated on a real PostgreSQL."""

import pytest

from spec.test_approval import *  # noqa: F403

pytestmark = pytest.mark.usefixtures("homes_on_postgres")
