"""The embedded bus keeps what every bus keeps."""

from pathlib import Path

import pytest

from bus_contract import BusContract, a_fact, everything
from mlops_lab.events import OBSERVATIONS, EventBus
from mlops_lab.events.on_sqlite import SqliteBus


class TestEmbeddedBus(BusContract):
    @pytest.fixture
    def bus(self, tmp_path: Path) -> EventBus:
        return SqliteBus(tmp_path / "bus.db")

    def test_an_id_is_taken_once(self, bus: EventBus) -> None:
        assert bus.publish(OBSERVATIONS, [a_fact(1), a_fact(1)]) == 1
        assert bus.publish(OBSERVATIONS, [a_fact(1), a_fact(2)]) == 1
        assert [delivery.message.data["n"] for delivery in everything(bus)] == [1, 2]
