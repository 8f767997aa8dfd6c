"""Where packages are published: a place in an object store if the settings name one, else a folder of the home."""

from mlops_lab.objects.place import Place
from mlops_lab.scoring.store import DirectoryStore, PackageStore
from mlops_lab.settings import Settings


def place(address: str, settings: Settings) -> Place:
    """A place in the object store of the settings. Raises SettingsWrong."""
    said = settings.stores
    return Place.of(
        address,
        endpoint=said.s3_endpoint,
        region=said.s3_region,
        key_file=said.s3_key_file,
        secret_file=said.s3_secret_file,
        timeout_s=said.s3_timeout_s,
    )


def packages(settings: Settings) -> PackageStore:
    """The published packages."""
    if not settings.stores.packages:
        return DirectoryStore(settings.home / "packages")
    from mlops_lab.scoring.on_s3 import S3Packages

    return S3Packages(place(settings.stores.packages, settings))
