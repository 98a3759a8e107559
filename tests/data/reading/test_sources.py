"""Rows with their places, from every kind of file, and files that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hf_align.config import DatasetConfig
from hf_align.data.reading.raw import RawRow
from hf_align.data.reading.sources import read_rows
from hf_align.errors import UserError


def _read(path: Path | str, **options: Any) -> list[RawRow]:
    return list(read_rows(DatasetConfig(path=str(path), **options)))


def _write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _places(rows: list[RawRow], path: Path) -> list[str]:
    return [row.place.removeprefix(f"{path}:") for row in rows]


def test_json_lines(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf{"text": "a"}\r\n\r\n{"text": "\xe4\xbd\xa0\xe2\x80\xa8"}\n'
    content += b'{"text": "c", \n[1]\n"\xff"\n{"text": "d"}'
    path = _write(tmp_path / "x.jsonl", content)
    rows = _read(path)
    assert _places(rows, path) == ["1", "3", "4", "5", "6", "7"]
    assert [row.values for row in rows] == [
        {"text": "a"},
        {"text": "你\u2028"},
        None,
        None,
        None,
        {"text": "d"},
    ]
    assert rows[2].problem.startswith("broken JSON: ")
    assert rows[3].problem == "expected an object with named columns, found a list"
    assert rows[4].problem == "not valid UTF-8: byte 0xFF at byte 2 of the line"


def test_json_array_names_the_line_of_each_row(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.json", '\n[\n  {"text": "a\\n\\n"},\n  7, {\n    "text": "b"\n  }\n]\n')
    rows = _read(path)
    assert _places(rows, path) == ["3", "4", "4"]
    assert [row.values for row in rows] == [{"text": "a\n\n"}, None, {"text": "b"}]


def test_one_json_object_is_a_row_or_holds_the_table(tmp_path: Path) -> None:
    row = _write(tmp_path / "row.json", '{"messages": [{"role": "user", "content": "x"}]}')
    assert [found.values for found in _read(row)] == [{"messages": [{"role": "user", "content": "x"}]}]
    table = _write(
        tmp_path / "table.json",
        '{"version": {"a": [1]},\n "data": [\n  {"text": "a"},\n  {"text": "b"}], "z": 1}',
    )
    assert _places(_read(table), table) == ["3", "4"]
    assert [found.values for found in _read(table)] == [{"text": "a"}, {"text": "b"}]


def test_json_lines_under_the_name_json(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.json", '{"text": "a"}\n{"text": "b"\n{"text": "c"}\n')
    rows = _read(path)
    assert _places(rows, path) == ["1", "2", "3"]
    assert [row.values is None for row in rows] == [False, True, False]
    first_broken = _write(tmp_path / "y.json", '{"text": \n{"text": "b"}\n')
    assert [row.values for row in _read(first_broken)] == [None, {"text": "b"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[\n{"text": "a"},\n{"text": }\n]', r":3: broken JSON: .*one object a line"),
        (
            '[\n{"text": "a"}\n',
            r":3: broken JSON: expected ',' or '\]' after a row, found the end of the file",
        ),
        ('[{"text": "a"}] x', "expected the end of the file after the array"),
        ('[{"text": "a"} {"text": "b"}]', "expected ',' or '\\]'"),
        ('"text"', "expected an array or an object"),
        ('{"text": "a"', ":1: broken JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("", "has no rows"),
        ("[]", "has no rows"),
        (" \n", "has no rows"),
        (b"\xff\xfe[\x00", "UTF-16"),
    ],
)
def test_broken_json_files(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = _write(tmp_path / "x.json", content)
    with pytest.raises(UserError, match=message) as caught:
        _read(path)
    assert str(path) in str(caught.value)


def test_invalid_utf8_in_a_json_array_stays_with_its_row(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.json", b'[{"text": "a\xff"}, {"text": "b"}]')
    assert [row.values for row in _read(path)] == [{"text": "a\udcff"}, {"text": "b"}]


def test_csv(tmp_path: Path) -> None:
    content = 'a,b\r\n1,"two\nlines"\n\n3\n4,5,6\n7,"x""y"\n8,"open" x\n9,10\n'
    path = _write(tmp_path / "x.csv", "\ufeff" + content)
    rows = _read(path)
    assert _places(rows, path) == ["2", "5", "6", "7", "8", "9"]
    assert [row.values for row in rows] == [
        {"a": "1", "b": "two\nlines"}, None, None, {"a": "7", "b": 'x"y'}, None, {"a": "9", "b": "10"},
    ]  # fmt: skip
    assert rows[1].problem == "expected 2 fields as in the header, found 1"
    assert rows[4].problem.startswith("not valid CSV")


def test_a_csv_quote_that_swallows_rows_is_named(tmp_path: Path) -> None:
    row, after = _read(_write(tmp_path / "x.csv", 'a,b\n1,"x\n2,y\n3,"z" w\n4,v\n'))
    assert row.place.endswith(":2") and "a quote may be missing since line 2" in row.problem
    assert "in line 4" in row.problem and after.values == {"a": "4", "b": "v"}
    never = _write(tmp_path / "y.csv", "a,b\n0,u\n" + '1,"x\n' + "2,y\n" * 50)
    with pytest.raises(UserError, match=r"y\.csv:3: .* never closed, so that the 50 lines behind it cannot"):
        _read(never)
    # Nothing is lost where there is nothing behind it.
    assert [row.values is None for row in _read(_write(tmp_path / "z.csv", 'a\n1\n"x'))] == [False, True]


def test_csv_fields_may_be_long(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.csv", "text\n" + "x" * 300_000 + "\n")
    assert [len((row.values or {})["text"]) for row in _read(path)] == [300_000]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no rows"),
        ("a,b\n", "has no rows"),
        ("a,a\n1,2\n", "names the column 'a' twice"),
        ("a,\n1,2\n", "without a name"),
        ("\n1,2\n", "must name the columns"),
        ('"a\n', "not valid CSV"),
    ],
)
def test_broken_csv_files(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        _read(_write(tmp_path / "x.csv", content))


def test_text_is_one_document_a_line(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.txt", b"one\r\n\n  two \n\xff\nthree\x0cstill three")
    rows = _read(path)
    assert _places(rows, path) == ["1", "3", "4", "5"]
    assert [row.values and row.values["text"] for row in rows] == [
        "one",
        "  two ",
        None,
        "three\x0cstill three",
    ]


def test_parquet(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "x.parquet"
    messages = [[{"role": "user", "content": "a"}], None]
    pyarrow.parquet.write_table(pyarrow.table({"messages": messages, "n": [1, 2]}), path)
    rows = _read(path)
    assert _places(rows, path) == ["row 1", "row 2"]
    assert [row.values for row in rows] == [
        {"messages": m, "n": n} for m, n in zip(messages, (1, 2), strict=True)
    ]
    pyarrow.parquet.write_table(pyarrow.table({"text": pyarrow.array([], pyarrow.string())}), path)
    with pytest.raises(UserError, match="has no rows"):
        _read(path)
    path.write_bytes(b"PAR1 nonsense")
    with pytest.raises(UserError, match="not readable as Parquet"):
        _read(path)


def test_a_folder_is_read_file_by_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    _write(tmp_path / "b.jsonl", '{"text": "2"}\n')
    _write(tmp_path / "a.jsonl", '{"text": "1"}\n')
    _write(tmp_path / "sub" / "c.JSON", '[{"text": "3"}]')
    _write(tmp_path / "README.md", "not data")
    _write(tmp_path / ".hidden.json", "broken")
    rows = _read(tmp_path)
    assert [row.values for row in rows] == [{"text": "1"}, {"text": "2"}, {"text": "3"}]
    assert rows[2].place == f"{tmp_path / 'sub' / 'c.JSON'}:1"
    _write(tmp_path / "c.jsonl", "")
    with pytest.raises(UserError, match=r"c\.jsonl: the file has no rows"):
        _read(tmp_path)


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    copies = tmp_path / "set" / ".ipynb_checkpoints"
    copies.mkdir(parents=True)
    for path in (tmp_path / "set" / "a.jsonl", tmp_path / "set" / ".a.jsonl", copies / "a-checkpoint.jsonl"):
        _write(path, '{"text": "a"}\n')
    assert len(_read(tmp_path / "set")) == 1
    # A hidden folder that is named itself is read.
    assert len(_read(copies)) == 1


def test_the_home_of_nobody(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        _read("~nobody_of_this_name/x.jsonl")


def test_folders_that_hold_no_data(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file of a known type"):
        _read(tmp_path)
    _write(tmp_path / "dataset_info.json", "{}")
    with pytest.raises(UserError, match="save_to_disk"):
        _read(tmp_path)


def test_max_rows_counts_unreadable_rows_and_reading_is_lazy(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.jsonl", '{"text": "a"}\nbroken\n{"text": "c"}\n')
    assert len(_read(path, max_rows=2)) == 2
    late = _write(tmp_path / "late.json", '[{"text": "a"}, broken')
    assert [row.values for row in _read(late, max_rows=1)] == [{"text": "a"}]


def test_rows_at_the_beginning_can_be_skipped(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.jsonl", "".join(f'{{"text": "{letter}"}}\n' for letter in "abcd"))
    assert [row.values["text"] for row in _read(path, skip_rows=1, max_rows=2)] == ["b", "c"]
    assert [row.values["text"] for row in _read(path, skip_rows=3)] == ["d"]
    assert _read(path, skip_rows=3)[0].place.endswith("x.jsonl:4")
    with pytest.raises(UserError, match=r"x\.jsonl: skip_rows leaves nothing of its 4 rows"):
        _read(path, skip_rows=4)
    (behind,) = _read("python_docs", skip_rows=2, max_rows=1)
    assert behind == _read("python_docs", max_rows=3)[2]


def test_paths_that_lead_nowhere_are_refused_at_once(tmp_path: Path) -> None:
    _write(tmp_path / "orders.jsonl", "{}")
    with pytest.raises(UserError, match=r"no such file or folder\. Did you mean 'orders.jsonl'\?"):
        read_rows(DatasetConfig(path=str(tmp_path / "order.jsonl")))
    with pytest.raises(UserError, match=r"the folder .*nowhere does not exist"):
        read_rows(DatasetConfig(path=str(tmp_path / "nowhere" / "x.jsonl")))
    unknown = _write(tmp_path / "x.jsnl", "{}")
    with pytest.raises(UserError, match=r"unknown file type '.jsnl'.*Did you mean '.json"):
        read_rows(DatasetConfig(path=str(unknown)))


def test_a_hub_id_is_loaded_through_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    calls: list[tuple[Any, ...]] = []

    def load(path: str, name: str | None, *, split: str, streaming: bool) -> Any:
        calls.append((path, name, split, streaming))
        return datasets.Dataset.from_dict({"text": ["a", "b"]})

    monkeypatch.setattr(datasets, "load_dataset", load)
    rows = list(read_rows(DatasetConfig(path="some/corpus", name="en", split="test"), streaming=True))
    assert rows == [
        RawRow("some/corpus[test]:row 1", {"text": "a"}),
        RawRow("some/corpus[test]:row 2", {"text": "b"}),
    ]
    assert calls == [("some/corpus", "en", "test", True)]


def test_a_hub_that_fails_is_named_with_what_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def refuse(*_: Any, **__: Any) -> Any:
        raise ConnectionError("no route\nmore")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(
        UserError, match=r"'some/corpus', configuration 'en', split 'train'.*ConnectionError: no route"
    ):
        list(read_rows(DatasetConfig(path="some/corpus", name="en")))

    def breaking(*_: Any, **__: Any) -> Any:
        yield {"text": "a"}
        raise TimeoutError("slow")

    monkeypatch.setattr(datasets, "load_dataset", breaking)
    with pytest.raises(UserError, match="failed after 1 rows: TimeoutError: slow"):
        list(read_rows(DatasetConfig(path="some/corpus")))
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: [])
    with pytest.raises(UserError, match="has no rows"):
        list(read_rows(DatasetConfig(path="corpus")))


def test_the_hub_out_of_reach(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="could not be loaded from the hub"):
        list(read_rows(DatasetConfig(path="nobody/nothing-of-this-name")))


def test_rows_read_equal_rows_written(tmp_path: Path) -> None:
    written = [{"text": text} for text in ("a", "你好\u2028", "\x00", '"', "\\", "\ud800")]
    path = _write(tmp_path / "x.jsonl", "".join(json.dumps(row) + "\n" for row in written))
    array = _write(tmp_path / "x.json", json.dumps(written, indent=1))
    assert [row.values for row in _read(path)] == [row.values for row in _read(array)] == written


ROWS = [{"text": "a"}, {"text": "b, c"}, {"text": "你"}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def _values(path: Path | str, **options: Any) -> list[Any]:
    return [row.values for row in _read(path, **options)]


@pytest.mark.parametrize("ending", ["gz", "bz2", "zst", "lz4"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.jsonl", LINES),
        ("x.ndjson", LINES),
        ("x.json", json.dumps(ROWS)),
        ("x.csv", 'text\na\n"b, c"\n你\n'),
        ("x.txt", "a\nb, c\n你\n"),
    ],
)
def test_compressed_files_are_read_as_they_are_without(
    tmp_path: Path, name: str, content: str, ending: str
) -> None:
    import pyarrow

    plain = _write(tmp_path / name, content)
    packed = tmp_path / f"{name}.{ending}"
    kind = {"gz": "gzip", "zst": "zstd"}.get(ending, ending)
    with pyarrow.output_stream(str(packed), compression=kind) as file:
        file.write(content.encode())
    rows = _read(packed)
    assert [row.values for row in rows] == _values(plain) == ROWS
    assert _places(rows, packed) == _places(_read(plain), plain)


def test_a_damaged_or_empty_compressed_file_is_named(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.jsonl.gz", "not packed")
    with pytest.raises(UserError, match=r"x.jsonl.gz: cannot be read: "):
        _read(path)
    with pytest.raises(UserError, match=r"the file has no rows"):
        _read(_write(tmp_path / "y.jsonl.gz", b""))
    with pytest.raises(UserError, match=r"unknown file type '.parquet.gz'"):
        _read(_write(tmp_path / "z.parquet.gz", b"x"))


def test_tabs_and_other_separators(tmp_path: Path) -> None:
    tabs = _write(tmp_path / "x.tsv", "a\tb\n1, 2\t3\n")
    assert _values(tabs) == [{"a": "1, 2", "b": "3"}]
    semicolons = _write(tmp_path / "x.csv", "a;b\n1,5;2\n")
    assert _values(semicolons, separator=";") == [{"a": "1,5", "b": "2"}]
    with pytest.raises(UserError, match=r"x.csv:1: the header is one column, 'a;b'.*Set separator: ';'"):
        _read(semicolons)
    with pytest.raises(UserError, match="separator is for csv files"):
        _read(_write(tmp_path / "x.jsonl", LINES), separator=";")


def test_a_pattern_takes_what_fits_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b-2", "b-1", "a-1"):
        _write(tmp_path / f"{name}.jsonl", json.dumps({"text": name}) + "\n")
    assert _values(tmp_path / "b-*.jsonl") == [{"text": "b-1"}, {"text": "b-2"}]
    with pytest.raises(UserError, match=r"c-\*.jsonl: no file matches this pattern"):
        _read(tmp_path / "c-*.jsonl")
    _write(tmp_path / "[x].jsonl", LINES)
    assert _values(tmp_path / "[x].jsonl") == ROWS, "a file of that name comes first"


def test_a_json_file_with_several_splits(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.json", json.dumps({"train": ROWS[:2], "test": ROWS[2:], "version": 1}))
    assert _values(path) == ROWS[:2]
    assert _values(path, split="test") == ROWS[2:]
    with pytest.raises(UserError, match="no split 'dev'; its splits are: train, test"):
        _read(path, split="dev")


def test_a_split_or_a_name_that_a_file_lacks_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.jsonl", LINES)
    with pytest.raises(UserError, match="found the split 'test', but a file of this type has no splits"):
        _read(path, split="test")
    with pytest.raises(UserError, match="found the name 'en', but a file has no configurations"):
        _read(path, name="en")


def _parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def test_a_folder_has_the_splits_that_its_files_are_named_by(tmp_path: Path) -> None:
    _parquet(tmp_path / "data" / "train-00000-of-00001.parquet", ROWS[:2])
    _parquet(tmp_path / "data" / "test-00000-of-00001.parquet", ROWS[2:])
    assert _values(tmp_path) == ROWS[:2]
    assert _values(tmp_path, split="test") == ROWS[2:]
    with pytest.raises(UserError, match=r"no split 'tset'; its splits are: train, test. Did you mean 'test'"):
        _read(tmp_path, split="tset")
    with pytest.raises(UserError, match="found the name 'en', but the folder has no configurations"):
        _read(tmp_path, name="en")


def test_a_folder_has_the_configurations_that_its_readme_names(tmp_path: Path) -> None:
    for language, row in (("en", ROWS[0]), ("zh", ROWS[2])):
        _write(tmp_path / f"{language}.jsonl", json.dumps(row) + "\n")
    entries = "".join(f"- config_name: {name}\n  data_files: {name}.jsonl\n" for name in ("en", "zh"))
    _write(tmp_path / "README.md", f"---\nconfigs:\n{entries}---\nText\n")
    assert _values(tmp_path, name="zh") == [ROWS[2]]
    with pytest.raises(UserError, match=r"Config name is missing.*'en', 'zh'"):
        _read(tmp_path)
    with pytest.raises(UserError, match="'fr' not found"):
        _read(tmp_path, name="fr")


def test_a_folder_without_splits_is_read_whole(tmp_path: Path) -> None:
    for name in ("one", "two"):
        _write(tmp_path / f"{name}.jsonl", json.dumps({"text": name}) + "\n")
    assert _values(tmp_path) == [{"text": "one"}, {"text": "two"}]
    with pytest.raises(UserError, match="no split 'test'; its splits are: train"):
        _read(tmp_path, split="test")


def test_what_save_to_disk_wrote(tmp_path: Path) -> None:
    import datasets

    one = datasets.Dataset.from_list(ROWS)
    one.save_to_disk(tmp_path / "one", num_shards=2)
    assert _values(tmp_path / "one") == ROWS
    datasets.DatasetDict(train=one, test=one.select([2])).save_to_disk(tmp_path / "both")
    assert _values(tmp_path / "both") == ROWS
    assert _values(tmp_path / "both", split="test") == ROWS[2:]
    with pytest.raises(UserError, match="no split 'dev'; its splits are: test, train"):
        _read(tmp_path / "both", split="dev")
    arrow = next((tmp_path / "one").glob("*.arrow"))
    assert _values(arrow) == ROWS[:2]
    with pytest.raises(UserError, match="not readable as Arrow"):
        _read(_write(tmp_path / "x.arrow", b"nothing of that kind"))


def test_an_address_is_fetched_once_and_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    memory = fsspec.filesystem("memory")
    memory.pipe("/corpus/x.jsonl", LINES.encode())
    rows = _read("memory://corpus/x.jsonl")
    assert [row.values for row in rows] == ROWS and rows[0].place.endswith("-x.jsonl:1")
    memory.pipe("/corpus/x.jsonl", (LINES + '{"text": "d"}\n').encode())
    assert len(_read("memory://corpus/x.jsonl")) == 4
    with pytest.raises(UserError, match=r"memory://corpus/none.jsonl: could not be fetched"):
        _read("memory://corpus/none.jsonl")
    with pytest.raises(UserError, match=r"nosuch://x/y.jsonl"):
        _read("nosuch://x/y.jsonl")


@pytest.mark.parametrize(
    "address",
    ["https://me:SECRET@host/x.jsonl", "https://host/x.jsonl?token=SECRET", "s3://b/x.jsonl#SECRET"],
)
def test_an_address_that_may_hold_a_key_is_refused_without_repeating_it(address: str) -> None:
    with pytest.raises(UserError, match="which may hold a key") as caught:
        DatasetConfig.from_entry({"path": address})
    assert "SECRET" not in str(caught.value)
