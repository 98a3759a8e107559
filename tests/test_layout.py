"""The house: what may import what, no circles, names and sizes of folders, tests that mirror the rooms."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "hf_align"

ENGINES = (
    {"errors", "types"},
    {"stages"},
    {"public_names", "losses", "statistics"},
    {"config"},
    {"runs"},
    {"data"},
    {"modeling"},
    {"adapters"},
    {"sampling"},
    {"saved_models"},
    {"rewards"},
    {"reporting"},
    {"training"},
)
"""The rooms that know no capability, lowest first: each imports itself and what stands above it here."""

CAPABILITIES = {
    "best_of_n",
    "classify",
    "corpus",
    "evaluation",
    "kto",
    "pipeline",
    "preference",
    "pretraining",
    "reward_model",
    "rl",
    "scaling",
    "sft",
    "tokenization",
}
"""A capability imports engines, and no other capability but for these pairs."""

PAIRS = {
    ("best_of_n", "sft"): "rejection sampling fine-tunes on its best answers",
    ("kto", "preference"): "the reference and the check of the start are those of compared answers",
    ("pipeline", "evaluation"): "a pipeline compares what its stages' evaluations found",
    ("reward_model", "preference"): "reward models are drawn like other runs on compared answers",
}

FRONT = {"commands", "__main__"}
"""What may import everything."""

MOST_FILES = 20
WITHOUT_A_ROOM = {"docs", "helpers", "notebooks", "parity"}
"""Folders of tests that mirror no room."""


def _modules() -> dict[str, Path]:
    """Path of every file by its dotted name below ``hf_align``; a package goes by its own name."""
    paths = {path.relative_to(PACKAGE).with_suffix(""): path for path in PACKAGE.rglob("*.py")}
    return {".".join(p.parts).removesuffix(".__init__"): path for p, path in paths.items()}


def _imports(source: str, known: Mapping[str, object]) -> Iterator[str]:
    """The modules of the package that ``source`` imports, inside functions and for type checkers included."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            inner = name.removeprefix("hf_align.")
            if inner != name:
                yield inner if inner in known else inner.rpartition(".")[0]


def _edges() -> dict[str, set[str]]:
    modules = _modules()
    return {
        name: {other for other in _imports(path.read_text(encoding="utf-8"), modules) if other != name}
        for name, path in modules.items()
    }


def _room(module: str) -> str:
    return module.partition(".")[0]


def allowed(room: str, other: str) -> bool:
    """Whether a file of ``room`` may import one of ``other``."""
    level = {name: number for number, names in enumerate(ENGINES) for name in names}
    if room == other or room in FRONT or (room, other) in PAIRS:
        return True
    if other not in level:
        return False
    return room in CAPABILITIES or level[other] < level[room]


def test_every_room_is_listed() -> None:
    listed = set().union(*ENGINES, CAPABILITIES, FRONT, {"__init__", ""})
    assert {_room(module) for module in _modules()} <= listed


def test_imports_go_down_and_never_to_another_capability() -> None:
    wrong = [
        f"{module} imports {other}"
        for module, others in _edges().items()
        for other in sorted(others)
        if module not in ("", "__init__") and not allowed(_room(module), _room(other))
    ]
    assert wrong == []


def test_listed_pairs_are_used() -> None:
    used = {(_room(module), _room(other)) for module, others in _edges().items() for other in others}
    assert set(PAIRS) <= used


def circles(edges: Mapping[str, set[str]]) -> list[set[str]]:
    """Groups of modules that reach each other."""
    reach: dict[str, set[str]] = {}
    for start in edges:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for other in edges.get(todo.pop(), set()) - seen:
                seen.add(other)
                todo.append(other)
        reach[start] = seen
    groups = {frozenset(b for b in reach[a] if a in reach.get(b, set())) for a in edges if a in reach[a]}
    return [set(group) for group in groups]


def test_no_module_reaches_itself() -> None:
    assert circles(_edges()) == []


def test_no_file_repeats_the_name_of_its_folder() -> None:
    repeated = [
        name
        for name in _modules()
        if (parts := name.split("."))[1:]
        and (parts[-1] == parts[-2] or parts[-1].startswith(f"{parts[-2]}_"))
    ]
    assert repeated == []


def test_folders_are_small() -> None:
    counts = Counter(path.parent for path in PACKAGE.rglob("*.py"))
    assert {str(folder): count for folder, count in counts.items() if count > MOST_FILES} == {}


def test_tests_mirror_the_rooms() -> None:
    """A folder of tests has the name of a folder of the package; every room with code has tests."""
    tests = defaultdict(list)
    for path in TESTS.rglob("test_*.py"):
        tests[PurePosixPath(path.parent.relative_to(TESTS))].append(path)
    folders = {PurePosixPath(path.parent.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py")}
    strange = [
        str(folder) for folder in tests if folder not in folders and folder.parts[0] not in WITHOUT_A_ROOM
    ]
    assert strange == []
    code = {
        PurePosixPath(path.parent.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    }
    assert sorted(str(folder) for folder in code if folder not in tests) == []


def test_the_checks_find_what_is_wrong() -> None:
    known = {"data.chat", "modeling.loading", "commands"}
    source = "from hf_align.modeling import loading\ndef f():\n    from hf_align.commands import x\n"
    assert list(_imports(source, dict.fromkeys(known))) == ["modeling.loading", "commands"]
    assert allowed("modeling", "data") and not allowed("data", "modeling")
    assert allowed("rl", "training") and not allowed("rl", "preference") and not allowed("training", "rl")
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [{"b", "c"}]
