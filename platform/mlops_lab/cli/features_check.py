"""`lab features check`: were answers scored on what training would see?"""

from typing import TYPE_CHECKING

import click

from mlops_lab.cli.opened import open_lab, shown, take_in_logs
from mlops_lab.cli.output import Output
from mlops_lab.errors import NotEnoughData, UsageError

if TYPE_CHECKING:
    from mlops_lab.bootstrap import Lab
    from mlops_lab.monitoring.window import Window
    from mlops_lab.pipelines.parity import Answer, Parity

_SHOWN = 20


@click.command("check")
@click.argument("weeks", metavar="[WEEK]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every week with answers.")
@click.pass_context
def check(ctx: click.Context, weeks: tuple[str, ...], every: bool) -> None:
    """Compare the features that answers were scored on with what the published facts give for the same moments, to the last bit.

    WEEK is an ISO week such as 2013-W14; the last one with answers where none is named. A difference is explained where leaving out facts
    that came late gives just what was served, or where the answer itself says that its features were stale or absent. Leaves with 1 when
    one is not explained, or when more than one answer in a thousand differs.
    """
    from mlops_lab.pipelines.parity import SHARE_ALLOWED, answers_of, compare

    output = ctx.ensure_object(Output)
    if weeks and every:
        raise UsageError("It is not clear which weeks are meant.", "name weeks, or give --all.")
    lab = open_lab()
    take_in_logs(lab)
    found: list[tuple[str, Parity]] = []
    for window in _windows(lab, weeks, every):
        answers = answers_of(lab, window.start, window.end)
        if answers.empty:
            raise NotEnoughData(
                f"Nobody was answered in {window.id}.", "`lab history` tells which weeks were played; `lab replay` goes on."
            )
        found.append((window.id, compare(lab, answers)))
    output.table(
        ["week", "answers", "values", "facts", "equal", "late facts", "stale or absent", "unexplained", "holds"],
        [
            [name, one.answers, one.values, one.facts, one.answers - len(one.differing), one.late, one.degraded, one.unexplained, one.holds]
            for name, one in found
        ],
    )
    differing = [answer for _, one in found for answer in one.differing]
    _list(output, differing)
    partly = sum(one.partly for _, one in found)
    if partly:
        output.say(f"{partly:,} answers are about flights whose aircraft is recorded nowhere; the rest of their features was compared.")
    holds = all(one.holds for _, one in found)
    answers_in_all = sum(one.answers for _, one in found)
    if holds:
        output.say(f"Holds: {answers_in_all:,} answers, {len(differing):,} differ, each for a known reason.")
    else:
        output.say(f"Does not hold: all differences need a reason, and at most {SHARE_ALLOWED:.1%} of the answers of a week may differ.")
    output.result({"weeks": [_document(name, one) for name, one in found], "holds": holds})
    ctx.exit(0 if holds else 1)


def _windows(lab: "Lab", weeks: tuple[str, ...], every: bool) -> "list[Window]":
    from mlops_lab.cli.ingest import parsed_week
    from mlops_lab.data.prediction import PREDICTIONS
    from mlops_lab.monitoring.window import Window
    from mlops_lab.pipelines.captured import LIVE

    if weeks:
        return [parsed_week(week) for week in weeks]
    lab.shipper  # noqa: B018  declares the table
    moments = lab.tables.read(PREDICTIONS, filters=[LIVE], columns=["moment"])["moment"]
    if moments.empty:
        raise NotEnoughData("Nothing was asked in this home yet.", "let time go by with `lab replay`.")
    windows = sorted({Window.containing(day.to_pydatetime()) for day in moments.dt.floor("D").unique()})
    return windows if every else windows[-1:]


def _list(output: Output, differing: "list[Answer]") -> None:
    if not differing:
        return
    worst = sorted(differing, key=lambda one: bool(one.because))  # what nothing explains comes first
    output.table(
        ["flight", "as of", "features that differ", "because"],
        [[one.entity, shown(one.moment), _named(one), one.because or "NOT EXPLAINED"] for one in worst[:_SHOWN]],
    )
    more = f"{len(differing) - _SHOWN:,} more differ; --json has all of them. " if len(differing) > _SHOWN else ""
    output.say(f"{more}`lab features show {worst[0].entity}` shows one in full.")


def _named(one: "Answer") -> str:
    first = one.differences[0]
    more = f", and {len(one.differences) - 1} more" if len(one.differences) > 1 else ""
    return f"{first.feature}: {_value(first.served)} instead of {_value(first.offline)}{more}"


def _value(value: object) -> str:
    return "nothing" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _document(name: str, one: "Parity") -> dict[str, object]:
    return {
        "week": name,
        "answers": one.answers,
        "partly": one.partly,
        "values": one.values,
        "facts": one.facts,
        "late": one.late,
        "degraded": one.degraded,
        "unexplained": one.unexplained,
        "share": one.share,
        "holds": one.holds,
        "differing": [
            {
                "prediction_id": each.prediction_id,
                "flight": each.entity,
                "moment": each.moment,
                "state": each.state,
                "differences": [difference._asdict() for difference in each.differences],
                "because": each.because or None,
                "late_facts": [fact.message.id for fact in each.reason.missing] if each.reason else [],
            }
            for each in one.differing
        ],
    }
