"""The package as a whole: what it needs, what may import what, its version."""

import ast
import configparser
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import marssep_jax

ROOT = Path(__file__).parents[1]
FOREIGN = {"tensorflow", "tensorflow_datasets", "torch", "keras"}
CORE_FORBIDS = FOREIGN | {"data_pipelines", "experiments", "librosa", "matplotlib"}
DATA_FORBIDS = {"marssep_jax", "experiments", "jax", "flax", "optax", "torch"}


@pytest.fixture(scope="module")
def settings():
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg")
    return parser


def requirements(text):
    return [Requirement(line) for line in text.splitlines() if line.strip()]


def imported_packages(path):
    """Return the top-level packages a file imports, at its top or inside."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def test_core_works_where_other_frameworks_are_absent():
    """Every module imports while TensorFlow, PyTorch and the rest cannot be."""
    code = f"""
import importlib, pkgutil, sys
for name in {sorted(CORE_FORBIDS)}:
    sys.modules[name] = None  # makes importing it raise ImportError
import marssep_jax
names = [m.name for m in pkgutil.walk_packages(marssep_jax.__path__, "marssep_jax.")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 30


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [("marssep_jax", CORE_FORBIDS), ("data_pipelines", DATA_FORBIDS)],
)
def test_no_module_names_what_it_must_not_know(package, forbidden):
    """Imports inside functions count too, which import-linter sees as well."""
    guilty = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / package).rglob("*.py")
        for name in forbidden & set(imported_packages(path))
    }
    assert guilty == set()


def test_every_core_requirement_is_imported(settings):
    import_names = {"orbax-checkpoint": "orbax", "pillow": "PIL", "absl-py": "absl"}
    text = "\n".join(p.read_text() for p in (ROOT / "marssep_jax").rglob("*.py"))
    for requirement in requirements(settings["options"]["install_requires"]):
        name = import_names.get(requirement.name, requirement.name)
        used = rf"(import|from) {name}\b|import_package\(\s*[\"']{name}[\"']"
        assert re.search(used, text), f"{name} is required but never imported"


def test_installed_versions_are_the_supported_ones(settings):
    lines = settings["options"]["install_requires"]
    lines += settings["options.extras_require"]["train"]
    for requirement in requirements(lines):
        if requirement.name == "marssep_jax":
            continue
        installed = importlib.metadata.version(requirement.name)
        assert Version(installed) in requirement.specifier, requirement.name


def test_package_managers_see_the_version_and_the_program():
    assert importlib.metadata.version("marssep_jax") == marssep_jax.__version__
    (program,) = importlib.metadata.entry_points(
        group="console_scripts", name="marssep"
    )
    assert program.load().__module__ == "marssep_jax.cli"


def test_renderer_is_pinned_alike_everywhere():
    """Its one-line installation is repeated where users meet it."""
    pinned = re.compile(r"tinysoundfont==([0-9.]*[0-9])")
    files = ("Makefile", "README.md", "data_pipelines/renderer.py")
    found = {name: set(pinned.findall((ROOT / name).read_text())) for name in files}
    assert all(len(versions) == 1 for versions in found.values()), found
    assert len(set.union(*found.values())) == 1, found


def test_vocabulary_is_pinned_alike_everywhere():
    """What an error message tells users to install is what was tested."""
    source = (ROOT / "marssep_jax/preprocessing/clip_tokens.py").read_text()
    (named,) = re.findall(r"open_clip_torch==[0-9.]*[0-9]", source)
    assert named in (ROOT / "Makefile").read_text()
