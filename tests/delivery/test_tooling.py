"""What a developer and CI rely on: targets that exist, locks that are complete, an install that heals, imports that have a direction."""

import ast
import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mlops_lab.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "platform" / "mlops_lab"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = dict(re.findall(r"^([a-z][a-z-]*):[^=\n]*?## (.+)$", MAKEFILE, re.MULTILINE))
HEAVY = {
    "deltalake",
    "evidently",
    "fastapi",
    "great_expectations",
    "matplotlib",
    "mlflow",
    "prefect",
    "prometheus_client",
    "sklearn",
    "sqlalchemy",
    "starlette",
    "uvicorn",
}


def documents() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "platform").rglob("*.md"))]


def code_in(document: Path) -> list[str]:
    """What a document shows as code: fenced blocks line by line, and `words` in a sentence."""
    text = document.read_text()
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    return [line for block in blocks for line in block.splitlines()] + inline


def locked(name: str) -> dict[str, list[Requirement]]:
    """The pins of one lock file, by package; a package may be pinned twice for two kinds of Python."""
    pins: dict[str, list[Requirement]] = {}
    for line in (ROOT / "requirements" / name).read_text().splitlines():
        if line and not line.startswith(("#", " ")):
            pin = Requirement(line.rstrip(" \\"))
            pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    return pins


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_in_a_document_exists(document: Path) -> None:
    for line in code_in(document):
        for target in re.findall(r"(?:^|&& |; )make ([a-z][a-z-]*)", line.strip()):
            assert target in TARGETS, f"`make {target}` is no target of the Makefile"
        for command in re.findall(r"(?:^|&& |; |bin/)lab ([a-z][a-z-]*)", line.strip()):
            assert command in COMMANDS, f"`lab {command}` is no command"


def test_make_alone_lists_every_target_with_a_sentence() -> None:
    shown = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    declared = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
    phony = re.search(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)
    assert phony is not None
    assert declared == set(TARGETS) == set(phony[1].split())
    for target, sentence in TARGETS.items():
        assert re.search(rf"^  make {target} +{re.escape(sentence)}$", shown, re.MULTILINE)


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_no_target_asks_for_something_that_is_not_there(target: str) -> None:
    """`make -n` says what it would do; a missing prerequisite or a broken recipe shows without running anything."""
    subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True)


def test_ci_runs_lint_then_tests_then_faults_and_takes_no_argument() -> None:
    script = ROOT / ".ci" / "run"
    subprocess.run(["bash", "-n", str(script)], check=True)
    steps = re.findall(r"^\s*step make ([\w-]+)", script.read_text(), re.MULTILINE)
    assert steps == ["install", "lint", "test", "test-services", "chaos-events-short", "chaos-short", "test-compose", "test-compose"]
    refused = subprocess.run(["bash", str(script), "fast"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "no argument" in refused.stderr


@pytest.mark.parametrize("name", ["bootstrap.txt", "lock.txt", "platform.txt", "serving.txt"])
def test_every_locked_package_has_its_hashes_and_no_address(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text()
    for entry in re.split(r"\n(?=[a-zA-Z])", text.split("make lock\n", 1)[1].strip()):
        assert re.match(r"[a-z0-9._-]+(\[[a-z,]+\])?==", entry), entry.splitlines()[0]
        assert "--hash=sha256:" in entry, entry.splitlines()[0]
    assert "://" not in text


def test_the_lock_holds_what_the_project_asks_for() -> None:
    """A dependency that was added to pyproject.toml without `make lock` is found here, not on the next machine."""
    asked = [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"]]
    asked += [text for extra in PROJECT["project"]["optional-dependencies"].values() for text in extra]
    pins = locked("lock.txt")
    for requirement in map(Requirement, asked):
        if requirement.name == PROJECT["project"]["name"]:
            continue
        for pin in pins[canonicalize_name(requirement.name)]:
            version = str(pin.specifier).removeprefix("==")
            assert requirement.specifier.contains(version), f"{requirement} is locked as {version}: run `make lock`"


@pytest.mark.parametrize("name", ["bootstrap.txt", "platform.txt", "serving.txt"])
def test_what_an_image_holds_is_what_was_tested(name: str) -> None:
    """Every pin of an image is that of the lock, so no image runs on a version that no test saw."""
    tested = {package: {str(pin.specifier) for pin in pins} for package, pins in locked("lock.txt").items()}
    differ = {
        package: sorted(versions)
        for package, pins in locked(name).items()
        if not (versions := {str(pin.specifier) for pin in pins}) <= tested.get(package, versions if name == "bootstrap.txt" else set())
    }
    assert differ == {}, "run `make lock`"


def test_this_environment_is_the_locked_one() -> None:
    differ = {}
    environment = {name: str(value) for name, value in default_environment().items()}
    for name, pins in locked("lock.txt").items():
        wanted = {str(pin.specifier).removeprefix("==") for pin in pins if pin.marker is None or pin.marker.evaluate(environment)}
        installed = importlib.metadata.version(name) if wanted else None
        if wanted and installed not in wanted:
            differ[name] = (installed, wanted)
    assert differ == {}, "run `make install`"


def test_what_the_code_imports_is_a_declared_dependency() -> None:
    """A package that is there only because another one brings it along is gone one day without a word."""
    declared = {canonicalize_name(Requirement(text).name) for text in PROJECT["project"]["dependencies"]}
    declared |= {canonicalize_name(Requirement(t).name) for extra in PROJECT["project"]["optional-dependencies"].values() for t in extra}
    distributions = importlib.metadata.packages_distributions()
    missing = {
        f"{name} (in {path.relative_to(PACKAGE)})"
        for path in PACKAGE.rglob("*.py")
        for name in imported_by(path)
        if name not in sys.stdlib_module_names | {"mlops_lab", "pip"}  # pip: of every virtual environment, asked for its index
        and not {canonicalize_name(distribution) for distribution in distributions.get(name, [name])} & (declared | {"starlette"})
    }
    assert missing == set()  # starlette: fastapi is a part of it by design, and re-exports its types


def imported_by(path: Path) -> set[str]:
    """Top-level names of everything that a module imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def test_every_test_is_run_by_one_of_the_targets() -> None:
    """`make test` runs `testpaths`, `test-services` and `test-compose` a folder each; a new one beside them would be run by nobody."""
    paths = [ROOT / path for path in PROJECT["tool"]["pytest"]["ini_options"]["testpaths"]]
    for folder in ("services", "stack"):
        assert ROOT / "tests" / folder not in paths
        paths.append(ROOT / "tests" / folder)
    for file in (ROOT / "tests").rglob("test_*.py"):
        assert any(file.is_relative_to(path) for path in paths), f"{file.relative_to(ROOT)} is run by no target"


def test_imports_have_a_direction() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_every_heavy_framework_that_is_used_has_a_contract() -> None:
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    protected = {module for contract in contracts if contract["type"] == "protected" for module in contract["protected_modules"]}
    used = {name for path in PACKAGE.rglob("*.py") for name in imported_by(path)} & HEAVY
    assert used <= protected


def test_the_menu_of_a_stage_offers_no_framework() -> None:
    """`import mlops_lab.registry` needs no MLflow: an `__init__.py` never names an adapter."""
    for menu in PACKAGE.rglob("__init__.py"):
        assert not re.search(r"^\s*(from|import) .*\bon_\w+", menu.read_text(), re.MULTILINE), menu


def test_git_overlooks_no_part_of_the_package() -> None:
    """`data/` in .gitignore without its slash in front once hid the whole data stage."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git work tree")
    paths = [str(path.relative_to(ROOT)) for path in (*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py"))]
    hidden = subprocess.run(
        ["git", "check-ignore", "--stdin"], cwd=ROOT, input="\n".join(paths), capture_output=True, text=True, check=False
    )
    assert hidden.stdout == ""
