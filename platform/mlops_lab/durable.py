"""Files that a power cut leaves whole: their content is flushed to the disk, and so is the folder that names them."""

import os
from pathlib import Path


def write_durably(path: Path, content: bytes) -> None:
    """Write a file and flush it to the disk. Raises OSError."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(directory: Path) -> None:
    """Flush which files are in it: a power cut may otherwise leave the content of one without its name. Raises OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
