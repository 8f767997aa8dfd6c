"""The stream processor of a home, on the bus and the store that it uses."""

from datetime import timedelta

from mlops_lab.bootstrap.lab import Lab
from mlops_lab.features.processor import Processor


def feature_processor(lab: Lab) -> Processor:
    """Nothing is opened before its first step.

    Raises:
        SettingsWrong: The home has no online store: its service keeps features in its own process.
    """
    from mlops_lab.bootstrap.feature_store import feature_store  # late: its import takes seconds

    lateness = timedelta(seconds=lab.settings.features.lateness_s)
    return Processor(lab.bus, lab.event_types, lab.use_case.row_state, feature_store(lab.settings), lab.clock, lateness=lateness)
