"""Packages as a broken disk, a wrong hand or an attacker would leave them: 500 seeded cases of harm.

`HARMS` change a good package folder in place, in a store or in a replica's cache; `harmed(seed)` picks and aims one.
"""

import json
import os
import random
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mlops_lab.scoring.files import LIMITS, Package
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
