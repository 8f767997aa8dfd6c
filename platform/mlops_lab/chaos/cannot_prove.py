"""The error of a fault that cannot be tried here."""

from mlops_lab.errors import SettingsWrong


class CannotProve(SettingsWrong):
    """A fault cannot be tried on this machine. It is an error, never a silent skip."""
