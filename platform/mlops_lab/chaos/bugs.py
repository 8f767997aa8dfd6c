"""What these faults have found, for `platform/docs/faults.md`: one line each, with what was done about it."""

BUGS: tuple[str, ...] = ()
