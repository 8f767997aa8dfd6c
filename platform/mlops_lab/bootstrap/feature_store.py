"""The feature store of a home, for who writes rows and who builds training sets. Its import takes seconds; the service does without it."""

from pathlib import Path

from mlops_lab.bootstrap.chosen import chosen
from mlops_lab.bootstrap.feature_progress import feature_progress
from mlops_lab.features.on_feast import FeastStore
from mlops_lab.features.on_sqlite import FILE
from mlops_lab.features.redis_address import Address
from mlops_lab.flights.online_usecase import FlightsOnline
from mlops_lab.settings import Settings


def feature_store(settings: Settings) -> FeastStore:
    """Feast with the online store that the home uses; nothing is opened before first use.

    Raises:
        SettingsWrong: The home has none: its service keeps features in its own process.
    """
    progress = feature_progress(settings)
    online: Path | Address = settings.home / FILE
    if chosen(settings).store == "redis":
        online = Address.of(settings.features.redis, settings.features.redis_password_file)
    return FeastStore(feast_folder(settings.home), FlightsOnline(), online, progress)


def feast_folder(home: Path) -> Path:
    """Where a home keeps Feast's registry and the history of rows."""
    return home / "feast"
