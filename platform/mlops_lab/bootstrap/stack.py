"""What a home on servers needs before its services start: `python -m mlops_lab.bootstrap.stack`. Doing it again changes nothing."""

import os
import shutil
import sys
from pathlib import Path

from mlops_lab.bootstrap.chosen import chosen, record
from mlops_lab.bootstrap.founding import found
from mlops_lab.bootstrap.identities import FEEDBACK
from mlops_lab.bootstrap.lab import Lab
from mlops_lab.bootstrap.packages import place
from mlops_lab.bootstrap.parts import make_ready
from mlops_lab.errors import LabError

PUBLIC = "public"
"""Folder of the keys' folder with what a service that only verifies may see."""


def main() -> int:
    """Prepare the home that the environment describes, or say what is missing."""
    try:
        prepare(Lab.of_environment(), os.environ.get("SERVING_USER", ""))
    except LabError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def prepare(lab: Lab, reader: str = "") -> None:
    """Topics, tables, packages and identities of a home.

    Args:
        lab: The home's ports.
        reader: User of the object store that may read packages; empty where nobody else reads.

    Raises:
        ServiceError: A part does not answer.
        StoreUnsafe: Two writers at once would lose a commit there.
    """
    settings = lab.settings
    make_ready(settings, _say)
    record(settings.home, chosen(settings))
    assert lab.tables
    _say(f"tables are in {settings.stores.tables or lab.home / 'tables'}; two writers at once lose nothing there")
    if reader and settings.stores.packages:
        from mlops_lab.objects.on_s3_policy import let_read

        let_read(place(settings.stores.packages, settings), reader)
        _say(f"user '{reader}' of the object store may read packages, and nothing else")
    found(lab)
    share_public(lab.keys)
    _say(f"the home in {lab.home} is ready")


def share_public(keys: Path) -> Path:
    """Copy what is no secret to those who verify, and the token of those who report outcomes, into a folder of its own."""
    public = keys / PUBLIC
    public.mkdir(exist_ok=True, mode=0o700)
    wanted = {path.name: path for path in [*keys.glob("*.pub"), *keys.glob("*.retired"), keys / f"{FEEDBACK}.token"]}
    for name, path in wanted.items():
        beside = public / f".{name}"
        shutil.copyfile(path, beside)
        beside.chmod(0o600 if name.endswith(".token") else 0o644)
        beside.replace(public / name)
    for path in public.iterdir():
        if path.name not in wanted:
            path.unlink()
    return public


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
