"""An object store: where it is, and what it has to promise before anything is trusted to it."""

from mlops_lab.objects.place import Place

__all__ = ["Place"]
