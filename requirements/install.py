"""Make `.venv` complete: exactly the locked packages, each checked by its hash, and this repository itself. Run by `make install`.

Quick when nothing is to do: a stamp in `.venv` holds the digest of all that decides its content. An install that was interrupted leaves a
mark, and the next run then begins with a fresh `.venv` (downloads are kept in a cache outside). Needs Python 3.11 to 3.13 and nothing else;
written so that an older Python can read it and say so. Package index, proxy and certificates are those that pip is configured for.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BOOTSTRAP = ROOT / "requirements" / "bootstrap.txt"
LOCK = ROOT / "requirements" / "lock.txt"
STAMP = VENV / ".complete"
UNFINISHED = VENV / ".unfinished"
NEWEST_FIRST = ("python3.13", "python3.12", "python3.11")
PROBE = "import sys, venv, ensurepip; print(*sys.version_info[:2])"


class CannotInstall(Exception):
    """Something that a person has to change. The arguments: what, and what to do next."""


def main() -> int:
    try:
        use_a_suitable_python()
        with (ROOT / "requirements" / "install.py").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # a second `make` waits here, then finds everything done
            install()
    except CannotInstall as error:
        print("{}\nNext: {}".format(*error.args), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped by Ctrl-C.\nNext: `make install` again; what was downloaded is kept.", file=sys.stderr)
        return 130
    return 0


def use_a_suitable_python() -> None:
    """Go on with a Python that can make the environment: the present one if it can, else the newest one found."""
    if suitable(sys.executable):
        return
    for name in NEWEST_FIRST:
        path = shutil.which(name)
        if path and suitable(path):
            print(f"{sys.executable} cannot be used here, {path} can.", flush=True)
            os.execv(path, [path, *sys.argv])
    if (3, 11) <= sys.version_info[:2] < (3, 14):
        raise CannotInstall(
            "Python {}.{} at {} has no venv and ensurepip.".format(*sys.version_info[:2], sys.executable),
            "install them (Debian, Ubuntu: `apt-get install python3-venv`), or name another: `make install PYTHON=/path/to/python3.12`.",
        )
    raise CannotInstall(
        "Python 3.11, 3.12 or 3.13 is needed; {} is {}.{}.".format(sys.executable, *sys.version_info[:2]),
        "install one with its venv module, or name it: `make install PYTHON=/path/to/python3.12`.",
    )


def suitable(python: str) -> bool:
    answer = subprocess.run([python, "-c", PROBE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return answer.returncode == 0 and answer.stdout.split() in (["3", "11"], ["3", "12"], ["3", "13"])


def install() -> None:
    if VENV.is_symlink():  # it would be emptied under the feet of whoever made it
        raise CannotInstall(f".venv is a link to {VENV.resolve()}.", "remove the link, then `make install`; or work in that folder.")
    wanted = stamp()
    if not UNFINISHED.exists() and STAMP.is_file() and STAMP.read_text() == wanted and works():
        print("The environment in .venv is complete.", flush=True)
        return
    if UNFINISHED.exists() or not works():
        print(f"Making .venv with {sys.executable} ...", flush=True)
        run([sys.executable, "-m", "venv", "--clear", str(VENV)])
    UNFINISHED.write_text("an install began and has not ended\n")
    if STAMP.exists():
        STAMP.unlink()
    python, uv = str(VENV / "bin" / "python"), str(VENV / "bin" / "uv")
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    print("Installing the installer, by hash ...", flush=True)
    run([*pip, "install", "--quiet", "--require-hashes", "--only-binary", ":all:", "-r", str(BOOTSTRAP)])
    index = index_of_pip(pip)
    print("Installing the locked packages, by hash (the first time some minutes and 2 GB) ...", flush=True)
    sync = [uv, "pip", "sync", "--python", python, "--require-hashes", "--no-build", "--compile-bytecode", str(BOOTSTRAP), str(LOCK)]
    run(sync, index, hide=(" + ", " - ", " ~ "))
    run([uv, "pip", "install", "--quiet", "--python", python, "--no-deps", "--no-build-isolation", "-e", str(ROOT)], index)
    STAMP.write_text(wanted)
    UNFINISHED.unlink()
    print("The environment in .venv is complete now.", flush=True)


def stamp() -> str:
    """The digest of all that decides what is in `.venv`: locks, the package's own metadata, the interpreter, and the place."""
    import tomllib  # not at the top: a Python that lacks it has to get as far as saying that it is too old

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    ours = [project["build-system"], project["project"], str(ROOT), *sys.version_info[:2]]
    digest = hashlib.sha256(json.dumps(ours, sort_keys=True).encode())
    for path in (BOOTSTRAP, LOCK):
        digest.update(path.read_bytes())
    return digest.hexdigest() + "\n"


def works() -> bool:
    """Whether `.venv` was made here, for the same minor version, and its Python and pip start."""
    python = VENV / "bin" / "python"
    if not python.exists():
        return False
    question = "import sys, pip; print(*sys.version_info[:2])"
    answer = subprocess.run([str(python), "-c", question], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if answer.returncode != 0 or answer.stdout.split()[-2:] != [str(part) for part in sys.version_info[:2]]:
        return False
    script = VENV / "bin" / "pip"
    return script.is_file() and str(VENV) in "".join(script.read_text().splitlines()[:3])  # a copied or moved one names its old place


def index_of_pip(pip: list[str]) -> dict[str, str]:
    """What uv has to be told of pip's configuration, which it does not read."""
    environment = {"UV_PYTHON_DOWNLOADS": "never"}
    asked = [*pip, "config", "get", "global.index-url"]
    configured = subprocess.run(asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.strip()
    index = os.environ.get("PIP_INDEX_URL") or configured
    if index and "UV_DEFAULT_INDEX" not in os.environ and "UV_INDEX_URL" not in os.environ:
        environment["UV_DEFAULT_INDEX"] = index
    if "PIP_CERT" in os.environ and "SSL_CERT_FILE" not in os.environ:
        environment["SSL_CERT_FILE"] = os.environ["PIP_CERT"]
    return environment


def run(command: list[str], environment: dict[str, str] | None = None, hide: tuple[str, ...] = ()) -> None:
    """Run a command and show what it says, but for lines that begin with one of `hide` (two hundred package names help nobody)."""
    process = subprocess.Popen(
        command,
        cwd=str(ROOT),
        env=dict(os.environ, **(environment or {})),
        stderr=subprocess.PIPE if hide else None,
        universal_newlines=True,
    )
    try:
        for line in process.stderr or ():
            if not line.startswith(hide):
                print(line, end="", file=sys.stderr, flush=True)
        code = process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    if code != 0:
        raise CannotInstall(
            "The install did not finish: `{}` left with {}.".format(" ".join(command[:5]), code),
            "read the message above (network? disk? package index of pip?), then `make install` again: downloads are kept.",
        )


if __name__ == "__main__":
    sys.exit(main())
