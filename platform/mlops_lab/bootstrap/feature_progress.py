"""What stands beside the online rows of a home: how far they are. Without Feast, whose import takes seconds."""

from mlops_lab.bootstrap.chosen import chosen
from mlops_lab.errors import SettingsWrong
from mlops_lab.features.on_redis import RedisProgress
from mlops_lab.features.on_sqlite import FILE, SqliteProgress
from mlops_lab.features.redis_address import Address
from mlops_lab.features.rows import ProgressKeeper
from mlops_lab.settings import Settings


def feature_progress(settings: Settings) -> ProgressKeeper:
    """Nothing is opened before first use.

    Raises:
        SettingsWrong: The home has no online store.
    """
    store = chosen(settings).store
    if store == "process":
        raise SettingsWrong(
            f"The home {settings.home} has no online store: its service keeps features in its own process.",
            "choose one with `lab up --with sqlite` or `lab up --with kafka,redis`, or by LAB_FEATURES__STORE.",
        )
    if store == "redis":
        return RedisProgress(Address.of(settings.features.redis, settings.features.redis_password_file))
    return SqliteProgress(settings.home / FILE)
