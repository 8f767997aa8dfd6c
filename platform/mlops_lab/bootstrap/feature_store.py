"""The feature store of a home, for who writes rows and who builds training sets. Its import takes seconds; the service does without it."""

from pathlib import Path

from mlops_lab.bootstrap.chosen import chosen
from mlops_lab.errors import SettingsWrong
from mlops_lab.features.on_feast import FeastStore
from mlops_lab.features.on_redis import Address, RedisProgress
from mlops_lab.features.on_sqlite import FILE, SqliteProgress
from mlops_lab.features.rows import ProgressKeeper
from mlops_lab.flights.online_usecase import FlightsOnline
from mlops_lab.settings import Settings


def feature_store(settings: Settings) -> FeastStore:
    """Feast with the online store that the home uses; nothing is opened before first use.

    Raises:
        SettingsWrong: The home has none: its service keeps features in its own process.
    """
    store = chosen(settings).store
    if store == "process":
        raise SettingsWrong(
            f"The home {settings.home} has no online store: its service keeps features in its own process.",
            "choose one with `lab up --with sqlite` or `lab up --with kafka,redis`, or by LAB_FEATURES__STORE.",
        )
    online: Path | Address = settings.home / FILE
    progress: ProgressKeeper = SqliteProgress(settings.home / FILE)
    if store == "redis":
        online = Address.of(settings.features.redis, settings.features.redis_password_file)
        progress = RedisProgress(online)
    return FeastStore(feast_folder(settings.home), FlightsOnline(), online, progress)


def feast_folder(home: Path) -> Path:
    """Where a home keeps Feast's registry and the history of rows."""
    return home / "feast"
