"""Ranges of tested releases: read from setup.cfg and from metadata, shown, recorded, said before a run."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from hf_align.runs import releases

ROOT = Path(__file__).resolve().parents[2]
SETUP = """
[metadata]
name = {name}
[options]
install_requires =
    torch>=2.11
    numpy>=1.26
[options.extras_require]
# Words.
tested =
    torch<2.14
    trl<1.17
dev =
    trl>=1.13
    ruff>=0.12
"""
FAKED = {"torch": "2.13.0+cpu", "numpy": "2.4.6", "trl": "1.13.0"}
REQUIRES = [
    *("torch>=2.11", "numpy>=1.26", 'torch<2.14; extra == "tested"', 'trl<1.17; extra == "tested"'),
    *('trl>=1.13; extra == "dev"', 'ruff>=0.12; extra == "dev"', 'gguf>=0.17; extra == "demo"'),
]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What is installed, as far as metadata says; hf_align as a wheel with the requirements above."""
    versions = dict(FAKED)

    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(metadata, "requires", lambda name: {"hf_align": REQUIRES}[name])
    monkeypatch.delenv(releases.SAID)
    return versions


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of hf_align without setup.cfg beside it, taken for the one that runs."""
    folder = tmp_path / "hf_align"
    folder.mkdir()
    monkeypatch.setattr(releases.libraries, "__defaults__", (folder,))
    return folder


WHEEL = [
    releases.Library("torch", "2.13.0+cpu", ">=2.11,<2.14", needed=True),
    releases.Library("numpy", "2.4.6", ">=1.26", needed=True),
    releases.Library("trl", "1.13.0", ">=1.13,<1.17", needed=False),
]


def test_an_installed_package_has_the_ranges_in_its_metadata(installed, package) -> None:
    assert releases.libraries() == WHEEL


def test_a_checkout_reads_its_setup_cfg(installed, package, monkeypatch) -> None:
    # Metadata of an editable installation is as old as the installation.
    monkeypatch.setattr(metadata, "requires", lambda name: ["torch>=1"])
    (package.parent / "setup.cfg").write_text(SETUP.format(name="hf_align"))
    assert releases.libraries() == WHEEL


def test_the_setup_cfg_of_another_project_is_not_read(installed, package) -> None:
    (package.parent / "setup.cfg").write_text(SETUP.format(name="other").replace("<2.14", "<9"))
    assert releases.libraries() == WHEEL


def test_a_copied_folder_knows_no_ranges_and_says_so(installed, package, monkeypatch) -> None:
    def requires(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    assert releases.libraries() == []
    assert releases.version_lines()[1].startswith("tested releases: not known")
    assert releases.notes() == []


@pytest.mark.parametrize(
    ("version", "place"),
    [
        ("2.10.1", "older"),
        ("2.11.0rc1", "older"),
        ("2.11", None),
        ("2.11.0+cu130", None),
        ("2.13.9", None),
        ("2.13.0+cpu", None),
        ("2.14.0.dev20261201", "newer"),
        ("2.14.0", "newer"),
        ("3", "newer"),
        (None, None),
    ],
)
def test_place_of_a_version(version: str | None, place: str | None) -> None:
    assert releases.Library("torch", version, ">=2.11,<2.14", needed=True).place == place


def test_nothing_is_said_of_tested_releases(installed, package) -> None:
    assert releases.notes() == []


def test_a_newer_release_is_one_line(installed, package) -> None:
    installed.update(torch="2.15.0", numpy="99")
    assert releases.notes() == [
        "note: torch 2.15.0: newer than hf_align was tested with. Should something fail: "
        "pip install 'torch>=2.11,<2.14'"
    ]


def test_an_older_release_is_one_line_with_its_bound(installed, package) -> None:
    installed.update(torch="2.10.0", numpy="1.25.2")
    assert releases.notes() == [
        "warning: torch 2.10.0, numpy 1.25.2: older than hf_align needs. Install what it was tested with: "
        "pip install 'torch>=2.11,<2.14' 'numpy>=1.26'"
    ]


def test_what_only_the_tests_need_is_shown_and_not_said(installed, package) -> None:
    installed.update(trl="1.20.0")
    assert releases.notes() == []
    assert releases.version_lines()[2:] == [
        "library  installed   tested",
        "torch    2.13.0+cpu  >=2.11,<2.14",
        "trl      1.20.0      >=1.13,<1.17  newer than tested",
    ]
    del installed["trl"]
    assert releases.version_lines()[-1] == "trl      -           >=1.13,<1.17"


def test_one_process_says_it_and_no_step_of_a_pipeline(installed, package) -> None:
    installed.update(torch="2.15.0")
    assert len(releases.notes({"RANK": "0"})) == 1
    assert releases.notes({"RANK": "1"}) == []
    assert releases.notes({releases.SAID: "1"}) == []


def test_record(installed, package) -> None:
    installed.update(torch="2.15.0", numpy="1.0")
    assert releases.record_entries() == {
        "tested_versions": {"torch": ">=2.11,<2.14", "trl": ">=1.13,<1.17"},
        "untested_versions": {"torch": "newer", "numpy": "older"},
    }


def test_every_tested_range_begins_at_a_lower_bound_and_ends_above_it() -> None:
    shown = {one.name: one for one in releases.libraries() if one.has_end}
    issue = {"torch", "transformers", "peft", "trl", "accelerate", "bitsandbytes", "datasets"}
    assert issue <= set(shown)
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    bounds = config["options"]["install_requires"] + config["options.extras_require"]["dev"]
    for line in config["options.extras_require"]["tested"].split():
        end = Requirement(line)
        (upper,) = end.specifier
        assert upper.operator == "<", line
        (lower,) = [text for text in bounds.split() if text.startswith(f"{end.name}>=")]
        assert shown[end.name].tested == f"{lower.removeprefix(end.name)},{upper}"
        # Both ends are of the range: the release that begins it is in it.
        oldest = lower.partition(">=")[2]
        assert releases.Library(end.name, oldest, shown[end.name].tested, True).place is None
        assert releases.Library(end.name, upper.version, shown[end.name].tested, True).place == "newer"


def test_the_metadata_of_a_built_package_says_what_setup_cfg_says(tmp_path: Path) -> None:
    checkout, built = tmp_path / "checkout", tmp_path / "built"
    (checkout / "hf_align").mkdir(parents=True)
    built.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "hf_align/__init__.py"):
        shutil.copy(ROOT / name, checkout / name)
    build = f"from setuptools.build_meta import prepare_metadata_for_build_wheel as p; p({str(built)!r})"
    process = subprocess.run([sys.executable, "-c", build], cwd=checkout, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    # As installed: the package and its metadata side by side, and no setup.cfg.
    shutil.copytree(ROOT / "hf_align", built / "hf_align", ignore=shutil.ignore_patterns("__pycache__"))
    code = "import hf_align.runs.releases as r; print(r.__file__); print(*r.libraries(), sep=chr(10))"
    lines = [
        subprocess.run(
            [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True,
            env={"PYTHONPATH": str(folder)},
        ).stdout.splitlines()
        for folder in (built, ROOT)
    ]  # fmt: skip
    assert lines[0][0].startswith(str(built)) and lines[1][0].startswith(str(ROOT))
    assert len(lines[0]) > 10 and lines[0][1:] == lines[1][1:]
