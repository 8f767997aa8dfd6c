"""The services of this home, as `lab up`, `lab down`, `lab status` and `lab doctor` see them."""

from typing import TYPE_CHECKING

from mlops_lab.embedded import Service, Supervisor
from mlops_lab.errors import UsageError

if TYPE_CHECKING:
    from mlops_lab.settings import Settings


def supervised(replicas: int = 1) -> tuple[Supervisor, list[Service]]:
    """The supervisor of the home that the settings name, and the services that belong there.

    Raises:
        SettingsWrong: A setting is misspelt or out of range.
        UsageError: The services are other containers, which nothing in here starts or stops.
    """
    from mlops_lab.bootstrap.services import service_specs  # late: `lab up --help` needs no settings
    from mlops_lab.settings import load_settings

    settings = load_settings()
    require_outside(settings)
    return Supervisor(settings.home), service_specs(settings, replicas)


def require_outside(settings: "Settings") -> None:
    """Go on only where services are processes of this machine. Raises UsageError."""
    from mlops_lab.bootstrap.running import is_inside

    if is_inside(settings):
        raise UsageError(
            "The services are containers of this stack, and none can start or stop another.",
            "on the host, `make up` starts them, `docker compose down` stops them; `lab status` here asks each whether it answers.",
        )
