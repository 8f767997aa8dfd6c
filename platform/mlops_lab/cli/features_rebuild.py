"""`lab features rebuild`: fill the online store anew."""

import time

import click

from mlops_lab.cli.output import Output


@click.command
@click.pass_obj
def rebuild(output: Output) -> None:
    """Fold the whole log of facts anew, and write every row of the online store.

    No fact counts twice and nothing is lost, so it does no harm. A processor that runs sees that somebody else has written, and writes all
    of its own rows once more behind it.
    """
    from mlops_lab.bootstrap import Lab
    from mlops_lab.bootstrap.feature_processor import feature_processor
    from mlops_lab.settings import load_settings

    lab = Lab(load_settings())
    processor = feature_processor(lab)
    began = time.monotonic()
    processor.rebuild()
    while processor.step():  # what nobody has taken in yet
        pass
    duration_s, by_view = time.monotonic() - began, processor.by_view()
    rows = sum(by_view.values())
    output.table(["rows of", "number"], [[view, number] for view, number in sorted(by_view.items())])
    output.say(f"{rows:,} rows are written anew in {duration_s:.1f} s.")
    output.result({"rows": rows, "by_view": by_view, "duration_s": duration_s, "group": processor.group})
