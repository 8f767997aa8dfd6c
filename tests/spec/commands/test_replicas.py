"""What each replica that `lab up` starts has of its own."""

import pytest


def test_replicas_have_ports_logs_and_caches_of_their_own() -> None:
    from mlops_lab.bootstrap.services import is_replica, service_specs
    from mlops_lab.errors import SettingsWrong
    from mlops_lab.settings import Settings, load_settings

    one, three = ([service for service in service_specs(load_settings(), number) if is_replica(service.name)] for number in (1, 3))
    assert one == three[:1]
    assert [(each.name, each.address.rpartition(":")[2]) for each in three] == [
        ("inference", "8100"),
        ("inference-2", "8101"),
        ("inference-3", "8102"),
    ]
    assert [(each.env.get("LAB_SERVICE__REPLICA"), each.env.get("LAB_SERVICE__PORT")) for each in three] == [
        (None, None),
        ("replica-2", "8101"),
        ("replica-3", "8102"),
    ]
    for service in ({"port": 65535}, {"replica": "replica-2"}):
        with pytest.raises(SettingsWrong):
            service_specs(Settings(service=service), 2)  # type: ignore[arg-type]
