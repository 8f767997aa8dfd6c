"""`lab features history`: the offline store that training sets are joined from."""

import time
from datetime import datetime, timedelta

import click

from mlops_lab.cli.opened import MOMENT, open_lab
from mlops_lab.cli.output import Output
from mlops_lab.errors import NotEnoughData, UsageError

BEFORE = timedelta(hours=36)
"""So that the windows of the first moments are filled."""


@click.command
@click.option("--from", "start", type=MOMENT, required=True, help="First moment, such as 2013-03-01.")
@click.option("--until", "end", type=MOMENT, required=True, help="The moment at which it ends.")
@click.pass_obj
def history(output: Output, start: datetime, end: datetime) -> None:
    """Write what each row of the online table was at each moment of a span, for Feast's offline store.

    It is made of the accepted batches. Feast's `get_historical_features` then finds for a flight what a question at its moment would
    have been answered from. A month takes some ten seconds and five megabytes.
    """
    if end <= start:
        raise UsageError(f"The span ends at {end:%Y-%m-%d} and begins at {start:%Y-%m-%d}.", "give a --from before --until.")

    from mlops_lab.bootstrap.feature_store import feature_store  # late: Feast takes seconds, and a wrong span is told before
    from mlops_lab.features.history import history as states_of
    from mlops_lab.features.on_feast_history import write_history

    lab = open_lab()
    store = feature_store(lab.settings)
    snapshot = lab.snapshots.latest(before=end + timedelta(days=366))
    tables = {schema.name: lab.snapshots.read(schema.name, snapshot) for schema in lab.use_case.tables}
    facts = list(lab.use_case.facts(tables, start - BEFORE, end))
    if not any(fact.at > start for fact in facts):
        raise NotEnoughData(
            f"No accepted batch has anything between {start:%Y-%m-%d} and {end:%Y-%m-%d}.", f"ingest it: `lab ingest {start:%Y-%m}`."
        )
    output.say(f"{len(facts):,} facts become the history of rows ...")
    began = time.monotonic()
    counts = write_history(store, states_of(facts, lab.use_case.row_state))
    output.table(["rows of", "states"], [[view, count] for view, count in counts.items()])
    output.say(f"{sum(counts.values()):,} states are written in {time.monotonic() - began:.0f} s.")
    output.result({"states": counts, "from": start, "until": end})
