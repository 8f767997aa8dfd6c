"""A clear end of the run where a part that the suite means to use is not there."""

from typing import Never

import pytest


def missing(what: str, next_step: str) -> Never:
    """End the run as a failure, with what is missing and how to get it."""
    pytest.exit(f"{what}\nNext: {next_step}", returncode=1)
