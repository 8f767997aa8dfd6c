"""The services of this home, as `lab up`, `lab down`, `lab status` and `lab doctor` see them."""

from mlops_lab.embedded import Service, Supervisor


def supervised(replicas: int = 1) -> tuple[Supervisor, list[Service]]:
    """The supervisor of the home that the settings name, and the services that belong there. Raises SettingsWrong."""
    from mlops_lab.bootstrap.services import service_specs  # late: `lab up --help` needs no settings
    from mlops_lab.settings import load_settings

    settings = load_settings()
    return Supervisor(settings.home), service_specs(settings, replicas)
