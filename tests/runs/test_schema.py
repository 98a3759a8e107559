"""run.json: typed reading of whatever is there, checked writing, one place for its keys, and their table."""

from __future__ import annotations

import ast
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_align.runs.record import read_run, write_json
from hf_align.runs.schema import Fields, Matches, Model, Record, RecordWarning, entry
from hf_align.stages import STAGES, load

ROOT = Path(__file__).parents[2]
RECORDS: dict[str, type[Record]] = {command: load(stage.record) for command, stage in STAGES.items()}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


class Inner(Fields):
    share: float | None = entry("a share")


class Outer(Record):
    inner: Inner = entry("what is inside", key="the inside")


def test_what_is_missing_reads_as_nothing() -> None:
    empty = Record()
    assert (empty.status, empty.wall_time_seconds, empty.generations, empty.recipe) == ("", None, [], {})
    assert empty.model == {} and empty.model.seq2seq is False and empty.model.parameters is None
    assert not empty, "what is read is not written"


def test_what_is_of_another_type_reads_as_nothing() -> None:
    found = Record.of(
        {"status": 7, "wall_time_seconds": "NaN", "recipe": [1], "generations": {}, "model": 3, "eva": None}
    )
    assert (found.status, found.wall_time_seconds, found.recipe, found.generations) == ("7", None, {}, [])
    assert found.model == {} and found.eva == {} and Record.of([1, 2]) == {}
    assert Record.of({"peak_memory_bytes": True, "tokens_per_second": float("inf")}).tokens_per_second is None


@pytest.mark.parametrize("cls", RECORDS.values())
@given(value=JSON)
def test_every_entry_can_be_read_from_anything(cls: type[Record], value: Any) -> None:
    for one in cls.declared():
        found = getattr(cls.of({one.key: value}), one.name)
        if isinstance(found, Fields):
            for inner in found.declared():
                getattr(found, inner.name)


def test_counts_stay_integers_and_measures_are_floats() -> None:
    assert type(Record.of({"peak_memory_bytes": 5}).peak_memory_bytes) is int
    assert type(Record.of({"tokens_per_second": 2**70}).tokens_per_second) is float


def test_only_what_is_given_is_written(tmp_path: Path) -> None:
    record = Record(status="completed", model=Model(name="m", class_name="C", parameters=np.int64(3)))
    write_json(tmp_path / "run.json", record)
    written = json.loads((tmp_path / "run.json").read_bytes())
    assert written == {"status": "completed", "model": {"name": "m", "class": "C", "parameters": 3}}
    assert read_run(tmp_path).model.class_name == "C"


def test_other_entries_are_kept() -> None:
    kept = Record.of({"command": "sft", "of another release": 1})
    kept.status = "completed"
    assert kept == {"command": "sft", "of another release": 1, "status": "completed"}
    del kept.status
    del kept.message
    assert kept == {"command": "sft", "of another release": 1}
    assert copy.deepcopy(kept) == kept and type(copy.deepcopy(kept)) is Record


def test_an_unknown_entry_is_an_error() -> None:
    with pytest.raises(TypeError, match="Record declares no entry 'statsu'"):
        Record(statsu="completed")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("name", "value"),
    [("status", 1), ("wall_time_seconds", "1"), ("recipe", []), ("generations", "a"), ("model", "m")],
)
def test_a_wrong_type_is_an_error_here_and_a_warning_for_users(name: str, value: Any) -> None:
    with pytest.raises(RecordWarning, match=rf"run\.json: {name} of Record is \w+, expected \w+"):
        Record(**{name: value})
    with pytest.warns(RecordWarning):
        assert Record(**{name: value}) == {name: value}, "a run does not end for it"
    assert Record(**{name: None}) == {name: None}, "null: unknown"


def test_stages_declare_no_entry_twice() -> None:
    shared = {one.key for one in Record.declared()}
    for command, cls in RECORDS.items():
        again = {one.key for one in _own(cls) if one.key in shared and not issubclass(one.type, Model)}
        assert cls is Record or again == set(), command


# Keys that are words of something else too: names of metrics, of recipe keys, of parts of a report.
_SPOKEN_FOR = {
    "model", "recipe", "status", "message", "command", "started", "machine", "versions", "overrides", "merge",
    "eva", "labels", "reference", "rounds", "steps", "pipeline", "tokenizer", "extension", "evaluation",
    "vllm", "identity", "classification", "pretraining", "best_of_n", "generations", "final_metrics",
    "recipe_path", "corpus",
}  # fmt: skip
_MEASURED = {"wall_time_seconds", "tokens_per_second", "peak_memory_bytes", "sample_exact_match"}
"""Metrics under these names stand in metrics.jsonl and in comparisons as well."""
_HOLDERS = {"record", "content", "run_record", "self.record"}
"""What a record is called where it is at hand."""


def _named(node: ast.AST) -> str:
    return ast.unparse(node).rpartition(".")[2]


def _keys_spelt(tree: ast.AST, keys: set[str]) -> Iterator[tuple[int, str]]:
    """(line, key) wherever an entry is reached by its name as a string, or written by it."""
    for node in ast.walk(tree):
        found, holder = None, None
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            found, holder = node.slice.value, node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            holder = node.func.value
            if node.func.attr in ("get", "pop", "setdefault") and node.args:
                found = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
            elif node.func.attr == "update":
                found = next((word.arg for word in node.keywords), None)
        elif isinstance(node, ast.Constant) and node.value in keys - _SPOKEN_FOR - _MEASURED:
            yield node.lineno, str(node.value)
        if found in keys and holder is not None and _named(holder) in _HOLDERS:
            yield node.lineno, str(found)


def test_keys_stand_in_the_schema_alone() -> None:
    keys = {one.key for cls in RECORDS.values() for one in cls.declared()}
    spelt = [
        f"{path.relative_to(ROOT)}:{line}: {key}"
        for path in sorted((ROOT / "hf_align").rglob("*.py"))
        for line, key in _keys_spelt(ast.parse(path.read_text(encoding="utf-8")), keys)
    ]
    assert spelt == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('record.get("status")', ["status"]),
        ('run.record.content["model"]', ["model"]),
        ('self.record.update(status="completed")', ["status"]),
        ('x = ["data_report"]', ["data_report"]),
        ('recipe.get("model"); record.status; record.update(Record(status="x"))', []),
    ],
)
def test_keys_that_are_spelt_are_found(source: str, found: list[str]) -> None:
    keys = {"status", "model", "data_report"}
    assert [key for _, key in _keys_spelt(ast.parse(source), keys)] == found


_TYPES = {str: "text", bool: "true or false", int: "number", float: "number", list: "list", dict: "object"}


def _own(cls: type[Fields]) -> list[Any]:
    """The entries that ``cls`` itself declares."""
    return [one for one in cls.declared() if one.owner is cls]


def table(entries: list[Any], place: str = "") -> list[str]:
    """A row for each entry, and for the entries inside these; of a stage's ``model`` those of its own."""
    rows = []
    for one in entries:
        inside = list(one.type.declared()) if issubclass(one.type, Fields) else []
        own_model = issubclass(one.type, Model) and one.type is not Model
        if not own_model:
            kind = "object" if inside else _TYPES[one.type]
            rows.append(f"| `{place}{one.key}` | {kind} | {one.about} |")
        rows += table(_own(one.type) if own_model else inside, f"{place}{one.key}.")
    return rows


def documentation() -> str:
    """The section of docs/runs.md."""
    head = ["| entry | | |", "| --- | --- | --- |"]
    parts = ["\n".join([*head, *table(_own(Record))])]
    for cls in dict.fromkeys(RECORDS.values()):
        if cls is not Record:
            commands = [f"`hf-align {command}`" for command, own in RECORDS.items() if own is cls]
            says = f"{' and '.join(commands)} {'add' if len(commands) > 1 else 'adds'}:"
            parts.append("\n".join([says, "", *head, *table(_own(cls))]))
    return "\n\n".join(parts)


def test_the_documentation_lists_every_entry() -> None:
    text = (ROOT / "docs" / "runs.md").read_text(encoding="utf-8")
    assert documentation() in text, f"docs/runs.md should hold:\n\n{documentation()}"


def test_entries_inside_may_have_types_of_their_own() -> None:
    assert Outer.of({"the inside": {"share": 0.5}}).inner.share == 0.5
    assert Outer(inner=Inner(share=None)) == {"the inside": {"share": None}}
    assert Matches(after=0.5).before is None
