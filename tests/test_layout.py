"""The tests mirror the package: whoever changes a module finds its tests by name, and names are unique."""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "hf_align"


def _modules() -> list[PurePosixPath]:
    paths = (path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
    return sorted(PurePosixPath(path.with_suffix("")) for path in paths)


def _test_files() -> list[PurePosixPath]:
    return sorted(PurePosixPath(path.relative_to(TESTS).with_suffix("")) for path in TESTS.rglob("test_*.py"))


def module_of(test: PurePosixPath, modules: list[PurePosixPath]) -> PurePosixPath | None:
    """The module that a test file is about: the longest name that its own continues, in the same folder."""
    subject = test.name.removeprefix("test_")
    beside = [module for module in modules if module.parent == test.parent]
    names = {module: module.name.strip("_") for module in beside}
    fitting = [module for module in beside if f"{subject}_".startswith(f"{names[module]}_")]
    return max(fitting, key=lambda module: len(names[module]), default=None)


def test_every_module_has_a_test_file_of_its_own() -> None:
    modules = _modules()
    tested = {module_of(test, modules) for test in _test_files()}
    assert [str(module) for module in modules if module not in tested] == []


def test_names_of_test_files_are_unique() -> None:
    counts = Counter(test.name for test in _test_files())
    assert [name for name, count in counts.items() if count > 1] == []


def test_a_file_belongs_to_the_longest_name_that_it_continues() -> None:
    modules = [PurePosixPath(name) for name in ("a/ppo", "a/ppo_log", "b/ppo_log_page", "__main__")]
    found = {
        test: str(module_of(PurePosixPath(test), modules))
        for test in (
            "a/test_ppo",
            "a/test_ppo_bandit",
            "a/test_ppo_log_page",
            "a/test_pp",
            "test_main",
            "b/test_x",
        )
    }
    assert found == {
        "a/test_ppo": "a/ppo",
        "a/test_ppo_bandit": "a/ppo",
        "a/test_ppo_log_page": "a/ppo_log",
        "a/test_pp": "None",
        "test_main": "__main__",
        "b/test_x": "None",
    }
