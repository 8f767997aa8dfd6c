"""How a home's rows of the online table are read: by its replicas, and by who wants to see what is there now."""

from typing import Protocol

from mlops_lab.bootstrap.chosen import chosen
from mlops_lab.errors import SettingsWrong
from mlops_lab.features.feast_layout import Layout
from mlops_lab.features.rows import RowReader
from mlops_lab.settings import Settings
from mlops_lab.usecase import OnlineUseCase


class ClosableReader(RowReader, Protocol):
    """A reader with a connection of its own."""

    def close(self) -> None: ...


def row_reader(settings: Settings, use_case: OnlineUseCase, deadline_s: float) -> tuple[ClosableReader, str]:
    """The reader, and where it reads; nothing is opened before first use.

    Args:
        settings: Of the home.
        use_case: Whose rows.
        deadline_s: What one reading may take.

    Raises:
        SettingsWrong: The home has no online store.
    """
    store, layout = chosen(settings).store, Layout(use_case.row_views)
    if store == "redis":
        from mlops_lab.features.on_redis import RedisRows
        from mlops_lab.features.redis_address import Address

        address = Address.of(settings.features.redis, settings.features.redis_password_file)
        return RedisRows(address, layout, deadline_s), str(address)
    if store == "sqlite":
        from mlops_lab.features.on_sqlite import FILE, SqliteRows

        return SqliteRows(settings.home / FILE, layout, deadline_s), FILE
    raise SettingsWrong(
        f"The home {settings.home} has no online store: its service keeps features in its own process.",
        "choose one with `lab up --with sqlite` or `lab up --with kafka,redis`, or by LAB_FEATURES__STORE.",
    )
