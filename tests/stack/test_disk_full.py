"""A full disk under the prediction log. A stack of its own, since only a small disk can be filled; core has all that takes part."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stack.load import Load
from stack.running import Stack, until

FILL = """
import errno
with open("/lab/serving/fill", "wb", buffering=0) as fill:
    try:
        while True:
            fill.write(bytes(4096))
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    core = Stack.of_core(tmp_path_factory.mktemp("small"), "mlops-lab-test-disk")
    stack = replace(core, files=(*core.files, "tests/stack/small_disk.yaml"))
    stack.down(volumes=True)  # of a run that was killed
    try:
        stack.build()
        stack.up()
        stack.lab("begin", timeout_s=600)
        yield stack
    finally:
        try:
            stack.keep_logs(Path("runs") / "test-compose" / "disk")
        finally:
            stack.down(volumes=True)


def test_a_full_disk_is_a_503_and_heals_when_there_is_space_again(small: Stack) -> None:
    with Load(small) as load:
        load.goes_on(50, timeout_s=120)
        small.python(FILL)
        try:
            until(lambda: load.statuses[503], lambda seen: seen >= 50, 60, "too few refusals of a service that cannot log")
            answered = len(load.acknowledged)
            until(lambda: load.statuses[503], lambda seen: seen >= 100, 60, "it does not keep refusing")
            assert len(load.acknowledged) == answered, "answers that no log can hold"
        finally:
            small.python("import os; os.remove('/lab/serving/fill')")
        load.goes_on(50)

    assert set(load.statuses) == {200, 503}, load.statuses
    small.wait_whole()
    load.require_in_tables()
