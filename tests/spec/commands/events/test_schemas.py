"""`lab events schemas`: types are listed, printed, and written."""

import json
from pathlib import Path

from cli_builders import Said, Told
from mlops_lab.bootstrap import Lab


def test_types_are_listed_and_one_is_printed(told: Told, said: Said, lab: Lab) -> None:
    assert {each["type"] for each in said("schemas")["types"]} == {each.name for each in lab.event_types}
    assert "FlightDeparted" in told("schemas")
    assert said("schemas", "FlightDeparted") == lab.event_types.named("FlightDeparted").json_schema()
    assert json.loads(told("schemas", "FlightDeparted")) == lab.event_types.named("FlightDeparted").json_schema()
    assert "did you mean 'FlightDeparted'?" in told("schemas", "FlightDeparture", code=2)


def test_schemas_are_written_where_it_is_said(lab: Lab, tmp_path: Path, told: Told, said: Said) -> None:
    assert len(said("schemas", "--write", str(tmp_path / "schemas"))["written"]) == len(list(lab.event_types))
    assert "nothing changed" in told("schemas", "--write", str(tmp_path / "schemas"))
    file = tmp_path / "schemas" / "FlightDeparted" / "1.json"
    file.write_text(file.read_text().replace('"delay_min"', '"delay_s"'))
    assert "data.delay_s is gone" in told("schemas", "--write", str(tmp_path / "schemas"), code=20)
