"""`lab audit`: can the record be trusted?"""

import click

from mlops_lab.cli.chronicle import shortened
from mlops_lab.cli.opened import open_lab, shown
from mlops_lab.cli.output import Output


@click.group("audit", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Verify the audit trail: who did what, why, and whether somebody touched the record afterwards.

    Without a word behind it: verify.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(verify)


@command.command
@click.pass_obj
def verify(output: Output) -> None:
    """Check every entry, its signature, and every row of the ledger against its entry.

    Entries are a hash chain with signed heads in a second place (audit-heads.jsonl), so an entry that was edited, taken out, moved or cut
    off is found, and the first bad one is named. Leaves with 40 when something does not hold.
    """
    from mlops_lab.pipelines.audited import require_accounted

    lab = open_lab()
    require_accounted(lab)
    entries = lab.trail.entries()
    output.say(f"All {len(entries)} entries hold, each signed, and every row of the ledger is accounted for.")
    output.result({"holds": True, "entries": len(entries), "head": entries[-1].hash if entries else None})


@command.command("list")
@click.option("--last", type=click.IntRange(min=1), default=40, show_default=True, help="So many of the newest entries.")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.pass_obj
def list_entries(output: Output, last: int, everything: bool) -> None:
    """List entries of the audit trail: event time, who, what, to what, and why."""
    lab = open_lab()
    entries = list(lab.trail.entries())
    chosen = entries if everything else entries[-last:]
    output.table(
        ["entry", "event time", "actor", "action", "subject", "reason"],
        [[e.seq, shown(e.at), e.actor, e.action, e.subject, shortened(e.reason, 60)] for e in chosen],
    )
    if len(chosen) < len(entries):
        output.say(f"{len(chosen)} of {len(entries)} entries; `--all` shows the others.")
    output.result({"entries": chosen, "of": len(entries)})
