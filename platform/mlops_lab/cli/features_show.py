"""`lab features show`: one question under the glass."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

import click

from mlops_lab.cli.opened import MOMENT, open_lab, shown, take_in_logs
from mlops_lab.cli.output import Output

if TYPE_CHECKING:
    from mlops_lab.features import Value
    from mlops_lab.features.rows import RowReader
    from mlops_lab.pipelines.published import Published
    from mlops_lab.pipelines.seen import Seen

_READING_S = 2.0


@click.command("show")
@click.argument("flight", metavar="FLIGHT")
@click.option("--at", type=MOMENT, help="Event time to look at (UTC), such as '2013-07-01 12:30Z'; else the moment of its question.")
@click.pass_obj
def show(output: Output, flight: str, at: datetime | None) -> None:
    """Print what the model saw of a FLIGHT, what is in the online store for it now, and what training would see, feature by feature.

    FLIGHT is an id such as 20130701T1330Z-UA1545-EWR. What was published until now is the truth: a fact that came after the answer is
    why the model saw another value, and it is named. Facts behind the moment do not count, in any column.
    """
    from mlops_lab.bootstrap.chosen import chosen
    from mlops_lab.bootstrap.row_reader import row_reader
    from mlops_lab.errors import FeatureStoreUnreachable
    from mlops_lab.pipelines.seen import seen

    lab = open_lab()
    take_in_logs(lab)
    reader: RowReader | None = None
    no_store = "features are in the service's own process: nobody else can read them"
    if chosen(lab.settings).store != "process":
        reader, _ = row_reader(lab.settings, lab.use_case, _READING_S)
        try:
            reader.progress()
            no_store = ""
        except FeatureStoreUnreachable as error:
            reader, no_store = None, error.what
    found = seen(lab, flight, at, reader)
    _print(output, found, no_store)
    output.result(_document(found, no_store))


def _print(output: Output, found: "Seen", no_store: str) -> None:
    ask, served = found.question.ask, found.served
    output.say(f"{ask.entity} as of {shown(ask.moment)}.")
    if served is None:
        output.say("Nobody has asked about it.")
    else:
        state = f", features {served.state}" if served.state else ""
        output.say(
            f"Answered {served.probability:.4f} by version {served.version} as of {shown(served.moment)}{state}: "
            f"prediction {served.prediction_id}, at {served.answered_at:%Y-%m-%d %H:%M:%S}Z of wall time."
        )
        if not found.comparable:
            output.say("That is another moment: what was served is shown, and not compared.")
    output.say(f"Online store: {no_store or 'read now'}. Offline: from {found.facts:,} facts {_SOURCES[found.source]}.")
    columns = ["feature", "served", "online now", "offline", ""]
    output.table(columns, [[name, *_cells(found, name), _mark(found, name)] for name in found.offline])
    ages = served.ages_s if served is not None and found.comparable else found.online_ages_s
    if ages:
        output.say(f"Age of the newest fact used: {', '.join(f'{source} {_age(age)}' for source, age in ages.items())}.")
    if found.question.unknown:
        output.say("Its aircraft is recorded nowhere: no plan of it was published, and it never left. What depends on it is not compared.")
    if found.differing:
        _explain(output, found)


_SOURCES = {"bus": "on the bus", "batches": "of the accepted batches"}


def _explain(output: Output, found: "Seen") -> None:
    count = len(found.differing)
    features = f"{count} features were" if count > 1 else "1 feature was"
    if found.reason is None:
        stale = found.served is not None and found.served.state not in ("", "fresh")
        why = "the answer itself says that the stream was behind" if stale else "no late fact explains it"
        output.say(f"{features} served with another value than training would see: {why}.")
        return
    output.say(f"{features} served with another value than training would see, since these facts were published after the answer:")
    rows = [_fact(one) for one in found.reason.missing]
    output.table(["fact", "id", "event time", "minutes late", "says"], rows)


def _fact(one: "Published") -> list[object]:
    said = ", ".join(f"{name} {value}" for name, value in one.message.data.items() if value is not None)
    return [one.message.type, one.message.id, shown(one.message.at), round(one.late_min, 1), said]


def _cells(found: "Seen", name: str) -> list[object]:
    served = "" if found.served is None else _value(found.served.values[name])
    online = "" if found.online is None else _value(found.online[name])
    return [served, online, "?" if name in found.question.unknown else _value(found.offline[name])]


def _mark(found: "Seen", name: str) -> str:
    marks = ["served differs"] if name in found.differing else []
    if found.online is not None and name not in found.question.unknown and found.online[name] != found.offline[name]:
        marks.append("online no more" if found.online[name] is None else "online differs")
    return ", ".join(marks)


def _value(value: "Value") -> str:
    return "-" if value is None else value if isinstance(value, str) else f"{value:.6g}"


def _age(age_s: float | None) -> str:
    return "unknown" if age_s is None else f"{age_s / 60:.0f} min"


def _document(found: "Seen", no_store: str) -> dict[str, object]:
    served = found.served
    return {
        "flight": found.question.ask.entity,
        "moment": found.question.ask.moment,
        "served": served,
        "online": {"values": found.online, "ages_s": found.online_ages_s, "trouble": no_store or None},
        "offline": {"values": _known(found), "source": found.source, "facts": found.facts},
        "comparable": found.comparable,
        "not_comparable": sorted(found.question.unknown),
        "differing": found.differing,
        "late_facts": [
            {"type": one.message.type, "id": one.message.id, "at": one.message.at, "late_min": one.late_min, "data": one.message.data}
            for one in (found.reason.missing if found.reason else ())
        ],
    }


def _known(found: "Seen") -> Mapping[str, object]:
    return {name: None if name in found.question.unknown else value for name, value in found.offline.items()}
