"""Puts the platform together from settings: the bundle of ports, the services, the serving process."""

from mlops_lab.bootstrap.lab import Lab

__all__ = ["Lab"]
