"""What a home on servers needs before its services start: `python -m mlops_lab.pipelines.stack_home`. Doing it again changes nothing."""

import os
import sys

from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.chosen import chosen, record, recorded_in, with_parts
from mlops_lab.bootstrap.founding import found
from mlops_lab.bootstrap.packages import place
from mlops_lab.bootstrap.parts import make_ready
from mlops_lab.bootstrap.public_keys import share_public
from mlops_lab.errors import LabError
from mlops_lab.pipelines.moving import take_along


def main() -> int:
    """Prepare the home that the environment describes, or say what is missing."""
    try:
        prepare(Lab.of_environment(), os.environ.get("SERVING_USER", ""))
    except LabError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def prepare(lab: Lab, reader: str = "") -> None:
    """Topics, tables, packages and identities of a home. Where its bus is another one than before, what readers still need goes along.

    Args:
        lab: The home's ports.
        reader: User of the object store that may read packages; empty where nobody else reads.

    Raises:
        ServiceError: A part does not answer.
        StoreUnsafe: Two writers at once would lose a commit there.
    """
    settings = lab.settings
    make_ready(settings, _say)
    before, now = recorded_in(settings.home), chosen(settings)
    if before.bus != now.bus:
        for each in take_along(Lab(with_parts(settings, before)), lab):
            _say(f"{each.topic}: {each.taken} events taken along from the former bus ({before.bus}), {each.left} left")
    record(settings.home, now)
    assert lab.tables
    _say(f"tables are in {settings.stores.tables or lab.home / 'tables'}; two writers at once lose nothing there")
    if reader and settings.stores.packages:
        from mlops_lab.objects.on_s3_policy import let_read

        let_read(place(settings.stores.packages, settings), reader)
        _say(f"user '{reader}' of the object store may read packages, and nothing else")
    found(lab)
    share_public(lab.keys)
    _say(f"the home in {lab.home} is ready")


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
