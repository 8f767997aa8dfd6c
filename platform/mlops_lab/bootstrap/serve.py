"""The serving process: `python -m mlops_lab.bootstrap.serve`. It imports neither MLflow nor scikit-learn nor pandas."""

import sys

from mlops_lab.bootstrap.followed import LedgerOfHome
from mlops_lab.bootstrap.identities import FEEDBACK
from mlops_lab.clock import WallClock
from mlops_lab.errors import LabError
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.flights.online_usecase import FlightsOnline
from mlops_lab.flights.request import ITEM_SCHEMA, OUTCOME_SCHEMA
from mlops_lab.governance.approval import read_token
from mlops_lab.logs import log_to_stderr
from mlops_lab.scoring.keys import verifying_key
from mlops_lab.scoring.scorer import Scorer
from mlops_lab.scoring.store import DirectoryStore
from mlops_lab.serving.follower import Limits
from mlops_lab.serving.on_fastapi import create_app, run
from mlops_lab.serving.openapi import Documentation
from mlops_lab.serving.service import assemble
from mlops_lab.settings import Settings, load_settings


def main() -> int:
    """Serve the champion until SIGTERM."""
    log_to_stderr()
    try:
        serve(load_settings())
    except LabError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def serve(settings: Settings) -> None:
    """Put one replica together and run it."""
    home, service, use_case, clock = settings.home, settings.service, FlightsOnline(), WallClock()
    online = use_case.online()
    parts = assemble(
        home / "serving" / service.replica,
        use_case,
        online=online,
        bus=SqliteBus(home / "bus.db"),
        ledger=LedgerOfHome(home, use_case.model),
        packages=DirectoryStore(home / "packages"),
        keys=[verifying_key(home / "keys")],
        load=Scorer.from_bytes,
        clock=clock,
        feedback_token=read_token(home / "keys" / f"{FEEDBACK}.token"),
        durability=service.durability,
        limits=Limits(every_s=service.follow_s, canary_lease_s=service.canary_lease_s, known_max_age_s=service.known_max_age_s),
    )
    about = Documentation("Will this flight arrive late?", item=ITEM_SCHEMA, outcome=OUTCOME_SCHEMA)
    run(create_app(parts, about), service.host, service.port)


if __name__ == "__main__":
    sys.exit(main())
