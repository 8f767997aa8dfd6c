"""One stack for all tests of this folder: the real images under a project of their own, on free ports, with a policy that is in a hurry."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.running import Stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Core, streaming and observability, healthy. A test that breaks something waits until it is whole again."""
    running = Stack.of_free_ports(tmp_path_factory.mktemp("stack"))
    running.down(volumes=True)  # of a run that was killed
    try:
        running.build()
        running.up()
        yield running
    finally:
        try:
            running.keep_logs(Path("runs") / "test-compose")
        finally:
            running.down(volumes=True)
