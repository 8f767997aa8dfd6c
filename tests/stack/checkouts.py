"""Checkouts to run a stack from: of an earlier commit, and of this one with what is not committed yet."""

import shutil
import subprocess
from pathlib import Path

from stack.running import ROOT


def commit_called(name: str, root: Path = ROOT) -> str:
    """The commit that git knows by this name. Raises AssertionError where the clone has none, and says how to get it."""
    done = _git(root, "rev-parse", "--verify", f"{name}^{{commit}}")
    assert done.returncode == 0, (
        f"{root} has no commit '{name}' to upgrade from: {done.stderr.strip()}\n"
        "Next: git fetch --unshallow, when the clone is shallow; or name one that is there by LAB_TEST_UPGRADE_FROM."
    )
    return done.stdout.strip()


def checkout_of(commit: str, folder: Path) -> Path:
    """A clone of its own, so that its .git says which commit it is, and nothing is noted in this one's."""
    for words in (["clone", "--shared", "--no-checkout", str(ROOT), str(folder)], ["-C", str(folder), "checkout", "--detach", commit]):
        done = _git(ROOT, *words)
        assert done.returncode == 0, done.stderr
    return folder


def checkout_as_it_is(folder: Path) -> Path:
    """The present commit with changes and new files, but for those that git ignores."""
    checkout_of(commit_called("HEAD"), folder)
    for name in _git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout.split("\0"):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
        elif name:
            (folder / name).unlink(missing_ok=True)
    return folder


def _git(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)
