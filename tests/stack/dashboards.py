"""Which queries of the dashboards a Prometheus has no data for. Grafana asks exactly this; its own image is not part of the tests.

By hand: `PYTHONPATH=tests .venv/bin/python -m stack.dashboards http://127.0.0.1:9090`
"""

import json
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "platform" / "deploy" / "observability" / "grafana" / "dashboards"
MAY_BE_EMPTY = {'ALERTS{alertstate="firing"}': "nothing has to be wrong"}
"""Query by query, and why no data is no fault."""


def empty_panels(prometheus: str, folder: Path = FOLDER) -> list[str]:
    """Dashboard, panel and query of all that have no data, but for those in `MAY_BE_EMPTY`.

    Args:
        prometheus: Its address, such as http://127.0.0.1:9090.
        folder: Where the dashboards are.

    Raises:
        OSError: Prometheus does not answer, or refuses a query.
    """
    return [
        f"{path.stem}: {panel['title']}: {target['expr']}"
        for path in sorted(folder.glob("*.json"))
        for panel in json.loads(path.read_text())["panels"]
        for target in panel["targets"]
        if target["expr"] not in MAY_BE_EMPTY and not found(prometheus, target["expr"])
    ]


def found(prometheus: str, query: str) -> list[dict[str, Any]]:
    """What a query finds now, or found at some moment of the last half hour; NaN is not a finding. Raises OSError."""
    for asked in (query, f"max_over_time(({query})[30m:30s])"):
        place = f"{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': asked})}"
        with urllib.request.urlopen(place, timeout=30) as answer:
            results = [result for result in json.load(answer)["data"]["result"] if result["value"][1] != "NaN"]
        if results:
            return results
    return []


if __name__ == "__main__":
    print("\n".join(empty_panels(sys.argv[1])))
