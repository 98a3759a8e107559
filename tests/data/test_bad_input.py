"""Mutated rows and files: an explained error or a counted row, never another exception or a silent loss."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.chat_tokenizers import FAMILIES, byte_level_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.config import DataConfig, DatasetConfig
from hf_align.data import prepare_datasets
from hf_align.data.reading.stream import RowStream
from hf_align.data.report import DataReport
from hf_align.errors import UserError
from hf_align.types import ComparisonRow, TokenizedRow

TOKENIZERS = {family: byte_level_tokenizer(template) for family, (template, _) in FAMILIES.items()}
TURNS = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": "你好"},
    {"role": "assistant", "content": "Hello 😀"},
    {"role": "user", "content": "and?"},
    {"role": "assistant", "content": "fine"},
]
GOOD: dict[str, dict[str, Any]] = {
    "alpaca": {"instruction": "a", "input": "b", "output": "c", "system": "d", "history": [["e", "f"]]},
    "sharegpt": {
        "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}],
        "system": "s",
    },
    "messages": {"messages": TURNS},
    "baize": {"input": "x [|Human|] a [|AI|] b [|Human|] "},
    "prompt_completion": {"prompt": "a ", "completion": "b"},
    "text": {"text": "some text"},
}
A, B = {"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b 好"}
COMPARED: dict[str, dict[str, Any]] = {
    "preference": {
        "prompt": TURNS[:2],
        "chosen": [*TURNS[:2], A],
        "rejected": [B],
        "margin": 1.0,
        "system": "",
    },
    "alpaca_preference": {"instruction": "a", "input": "b", "chosen": "c", "selected": "d", "rejected": [A]},
    "sharegpt_preference": {
        "conversations": [{"from": "human", "value": "a"}],
        "chosen": {"from": "gpt", "value": "a"},
        "rejected": {"from": "gpt", "value": "b"},
    },
    "hh": {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"},
    "ultrafeedback": {
        "instruction": "a",
        "completions": [{"response": "b", "overall_score": 3}, {"text": "c", "score": 2.5}],
    },
    "ranking": {"prompt": "a ", "answers": ["b", "c", "d"], "scores": [1, 2, 1]},
}
ODD: list[Any] = [
    None,
    True,
    0,
    1.5,
    float("nan"),
    "",
    " ",
    "\x00",
    "\ud800",
    "x\udfff",
    "\u2028",
    "gpt",
    "assistant",
    "x" * 5000,
    [],
    {},
    [[]],
    [None],
    {"role": "narrator", "content": "x"},
    {"role": "assistant", "content": ""},
    {"from": "gpt"},
    [["a", "b", "c"]],
    "[|AI|]",
    [{"type": "image"}],
    [{"type": "text", "text": "x"}],
    {"\ud800": "\ud800"},
    10**400,
]


def _positions(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, item in inner for found in _positions(item, (*path, key)))]


def _mutated(row: Any, path: tuple[Any, ...], change: str, odd: Any) -> Any:
    if not path:
        return odd
    row = json.loads(json.dumps(row))
    parent = row
    for key in path[:-1]:
        parent = parent[key]
    key = path[-1]
    if change == "replace":
        parent[key] = odd
    elif change == "delete":
        del parent[key]
    elif isinstance(parent, list):
        parent.insert(key, odd)
    else:
        parent[f"{key}s"] = parent.pop(key)
    return row


@st.composite
def bad_rows(draw: st.DrawFn, formats: dict[str, dict[str, Any]]) -> tuple[str, list[Any]]:
    """(format, rows): good ones and mutated ones."""
    name = draw(st.sampled_from(sorted(formats)))
    good = formats[name]
    rows = [good] * draw(st.integers(0, 2))
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(_positions(good)))
        change = draw(st.sampled_from(["replace", "delete", "other"]))
        rows.insert(draw(st.integers(0, len(rows))), _mutated(good, path, change, draw(st.sampled_from(ODD))))
    return name, rows


def _check_counts(report: DataReport) -> None:
    for source in report.sources:
        assert source.read == source.kept + source.malformed + source.dropped + source.no_target
        assert source.malformed == 0 or source.problems
        assert sum(source.malformed_kinds.values()) <= source.malformed
    json.dumps(report.to_dict()).encode()
    report.summary().encode()


def _run(path: Path, family: str, **options: Any) -> tuple[DataReport | None, int]:
    """(report, rows trained on), or (None, 0) where the data were refused with an explanation."""
    dataset = DatasetConfig(path=str(path), format=options.pop("format", "auto"))
    comparisons = options.pop("comparisons", False)
    data = DataConfig(datasets=[dataset], **options)
    try:
        prepared = prepare_datasets(data, TOKENIZERS[family], seed=0, comparisons=comparisons)
        rows = list(prepared.train)
    except UserError as error:
        str(error).encode()
        assert str(path) in str(error) or "split" in str(error)
        return None, 0
    for row in [*rows, *prepared.eval]:
        assert isinstance(row, ComparisonRow) == comparisons
        for sequence in _sequences(row):
            assert sequence.target_tokens > 0
            assert not sequence.target_mask[0]
            assert len(sequence) <= data.max_length
        assert not comparisons or row.pairs()
    if isinstance(prepared.train, RowStream):
        return prepared.report, len(rows)
    assert prepared.report.train_rows == len(rows)
    assert len(rows) + prepared.report.held_out == sum(source.kept for source in prepared.report.sources)
    return prepared.report, len(rows)


def _sequences(row: Any) -> list[TokenizedRow]:
    return [row.sequence(k) for k in range(len(row.branches))] if isinstance(row, ComparisonRow) else [row]


options = st.fixed_dictionaries(
    {
        "max_malformed_share": st.sampled_from([0.0, 0.5, 1.0]),
        "max_untrained_share": st.sampled_from([0.0, 1.0]),
        "overlong": st.sampled_from(["error", "drop", "truncate"]),
        "max_length": st.sampled_from([2, 12, 100, 100_000]),
        "train_on": st.sampled_from(["assistant", "last", "all"]),
        "eval_split_size": st.sampled_from([0.0, 1.0, 2.0]),
        "streaming": st.booleans(),
        "system_prompt": st.sampled_from([None, "s"]),
    }
)


@settings(max_examples=250, deadline=None)
@given(
    found=bad_rows(GOOD),
    family=st.sampled_from(sorted(FAMILIES)),
    options=options,
    suffix=st.sampled_from([".jsonl", ".json"]),
    named=st.booleans(),
)
def test_mutated_rows(
    found: tuple[str, list[Any]], family: str, options: dict[str, Any], suffix: str, named: bool
) -> None:
    name, rows = found
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows{suffix}"
        lines = [json.dumps(row) for row in rows]
        path.write_text("\n".join(lines) if suffix == ".jsonl" else f"[{','.join(lines)}]")
        report, _ = _run(path, family, format=name if named else "auto", **options)
    if report is not None:
        _check_counts(report)
        assert report.sources[0].read == len(rows)


@settings(max_examples=250, deadline=None)
@given(
    found=bad_rows(COMPARED),
    family=st.sampled_from(sorted(FAMILIES)),
    options=options.filter(lambda options: options["train_on"] != "all"),
    named=st.booleans(),
)
def test_mutated_comparisons(
    found: tuple[str, list[Any]], family: str, options: dict[str, Any], named: bool
) -> None:
    name, rows = found
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in rows))
        report, _ = _run(path, family, format=name if named else "auto", comparisons=True, **options)
    if report is not None:
        _check_counts(report)
        assert report.sources[0].read == len(rows)


@pytest.mark.parametrize("name", sorted(COMPARED))
def test_good_comparisons_are_good(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(COMPARED[name]) + "\n")
    report, rows = _run(path, "chatml", comparisons=True)
    assert report is not None
    assert (rows, report.sources[0].format, report.sources[0].malformed) == (1, name, 0)


FILES: dict[str, bytes] = {
    ".jsonl": "".join(json.dumps(GOOD["messages"]) + "\n" for _ in range(3)).encode(),
    ".json": json.dumps([GOOD["alpaca"]] * 3, indent=1).encode(),
    ".csv": b'prompt,completion\na,b\n"c\nd","e"\nf,g\n',
    ".txt": "one\n\ntwo 你好\r\nthree".encode(),
}


@st.composite
def broken_files(draw: st.DrawFn) -> tuple[str, bytes]:
    """(suffix, content) with a few bytes cut, replaced or inserted."""
    suffix = draw(st.sampled_from(sorted(FILES)))
    content = FILES[suffix]
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.integers(start, min(len(content), start + 20)) | st.just(len(content)))
        extra = draw(
            st.sampled_from(
                [b"", b"\x00", b"\xff", b"\xef\xbb\xbf", b'"', b"\r", b"\n", b"{", b"]", b",", b"\\ud800"]
            )
        )
        content = content[:start] + extra + content[end:]
    return suffix, content


@settings(max_examples=250, deadline=None)
@given(found=broken_files(), streaming=st.booleans(), share=st.sampled_from([0.0, 1.0]))
def test_mutated_files(found: tuple[str, bytes], streaming: bool, share: float) -> None:
    suffix, content = found
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows{suffix}"
        path.write_bytes(content)
        report, _ = _run(path, "chatml", streaming=streaming, max_malformed_share=share)
    if report is not None:
        _check_counts(report)


@settings(max_examples=50, deadline=None)
@given(cut=st.integers(0, 700), flip=st.none() | st.integers(0, 700))
def test_mutated_parquet_files(cut: int, flip: int | None) -> None:
    import pyarrow
    import pyarrow.parquet

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        pyarrow.parquet.write_table(pyarrow.table({"text": ["one", "two", None]}), path)
        content = bytearray(path.read_bytes())
        if flip is not None and flip < len(content):
            content[flip] ^= 0xFF
        path.write_bytes(content[: len(content) - cut] if cut < 600 else content)
        report, _ = _run(path, "chatml", max_malformed_share=1.0)
    if report is not None:
        _check_counts(report)


@pytest.mark.parametrize("size", [0.0, 1.0, 0.5])
def test_a_source_of_one_row_and_every_split(tmp_path: Path, size: float) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "abc"}')
    report, rows = _run(path, "chatml", eval_split_size=size)
    assert (report is not None) == (rows == 1) == (size == 0.0)


def test_a_very_long_row(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("short\n" + "word " * 100_000 + "\n")
    report, rows = _run(path, "chatml", overlong="drop", max_length=50)
    assert report is not None
    assert (rows, report.sources[0].dropped) == (1, 1)
    assert report.sources[0].longest > 100_000


@pytest.mark.parametrize("write", [lambda p: p.write_bytes(b""), lambda p: p.write_bytes(b"\n\n")])
@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".txt", ".parquet"])
def test_empty_files(tmp_path: Path, suffix: str, write: Callable[[Path], int]) -> None:
    path = tmp_path / f"x{suffix}"
    write(path)
    assert _run(path, "chatml", max_malformed_share=1.0) == (None, 0)
