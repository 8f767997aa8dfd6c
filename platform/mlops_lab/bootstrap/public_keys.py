"""What those who only verify may see of a home's keys, in a folder of its own."""

import shutil
from pathlib import Path

from mlops_lab.bootstrap.identities import FEEDBACK

PUBLIC = "public"
"""Folder of the keys' folder with what a service that only verifies may see."""


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
