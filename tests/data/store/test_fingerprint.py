"""What prepares a source again, and what does not."""

from __future__ import annotations

import json
import os
import re
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.chat_tokenizers import FAMILIES, byte_level_tokenizer
from helpers.large_sources import TOKENIZER, any_row, content_of, prepare, write_rows

from hf_align.config import DataConfig, DatasetConfig
from hf_align.data import prepare_datasets
from hf_align.data.chat.rendering import make_encoder
from hf_align.data.comparisons.encoding import ComparisonEncoder
from hf_align.data.labelled import LabelledEncoder
from hf_align.data.seq2seq import Seq2SeqEncoder
from hf_align.data.store import datasets as stored
from hf_align.data.store import fingerprint
from hf_align.runs.code_digest import digest_of_modules

PACKAGE = Path(fingerprint.__file__).parents[2]
TAKES_PART = (
    *("types/rows.py", "types/examples.py", "errors.py", "runs/columns.py"),
    *("data/pipeline.py", "data/encoding.py", "data/masking.py", "data/plain.py", "data/tokenizing.py"),
    *("data/conversion/formats.py", "data/conversion/answers.py", "data/conversion/turns.py"),
    *("data/conversion/labels.py", "data/reading/tables.py", "data/chat/spans.py", "data/report.py"),
    *("data/store/workers.py", "data/store/flat_rows.py"),
)
"""Of the modules that take part in preparing conversations, some of every folder."""

pytestmark = pytest.mark.usefixtures("everything_is_large")


def test_what_comes_after_preparation_does_not_prepare_again(tmp_path: Path, preparations: list[str]) -> None:
    a, b = write_rows(tmp_path / "a.jsonl", range(60)), write_rows(tmp_path / "b.jsonl", range(30))
    prepare(a, b, eval_split_size=4.0)
    preparations.clear()
    prepare(b, a, eval_split_size=0.2, seed=5, mixture_exponent=0.3, dataset_num_proc=2)
    prepare(datasets=[DatasetConfig(path=a, weight=3.0)], eval_split_size=1.0, packing=False)
    assert preparations == []


@pytest.mark.parametrize(
    "options",
    [
        {"max_length": 61},
        {"overlong": "truncate"},
        {"train_on": "all"},
        {"system_prompt": "s"},
        {"add_eos": False},
        {"require_end_of_turn": False},
        {"eval_split_size": 2.0},  # their examples are needed then
        {"datasets": {"max_rows": 30}},
        {"datasets": {"skip_rows": 30}},
        {"datasets": {"format": "messages"}},
        {"datasets": {"columns": {"messages": "messages"}}},
    ],
    ids=str,
)
def test_an_option_that_matters_prepares_again(
    tmp_path: Path, preparations: list[str], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "_FEW_ROWS", 0)
    path = write_rows(tmp_path / "a.jsonl", range(60))
    prepare(path)
    if isinstance(options.get("datasets"), dict):
        options = {"datasets": [DatasetConfig(path=path, **options["datasets"])]}
    prepare(path, **options)
    assert len(preparations) == 2


def test_the_data_count_by_content(tmp_path: Path, preparations: list[str]) -> None:
    path = Path(write_rows(tmp_path / "a.jsonl", range(60)))
    first = content_of(prepare(str(path)))
    moved = path.rename(tmp_path / "moved.jsonl")
    found = content_of(prepare(str(moved)))
    assert preparations == ["a.jsonl"]
    # Places and problems name the file as it is called now.
    assert json.dumps(found).replace("moved.jsonl", "a.jsonl") == json.dumps(first)
    # Another content of the same size, with the time stamps of before.
    before = moved.stat()
    moved.write_text(moved.read_text().replace("answer 4", "answer 5"))
    os.utime(moved, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert moved.stat().st_size == before.st_size
    assert content_of(prepare(str(moved))) != found
    assert preparations == ["a.jsonl", "moved.jsonl"]


def test_a_folder_counts_by_its_files_and_their_names(
    tmp_path: Path, preparations: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "d"
    (folder / "sub").mkdir(parents=True)
    write_rows(folder / "a.jsonl", range(30))
    write_rows(folder / "sub" / "b.jsonl", range(30, 60))
    prepared = prepare(str(folder))
    monkeypatch.chdir(folder)
    here = prepare(".")
    assert [row.source for row in here.train] == [
        row.source.removeprefix(f"{folder}/") for row in prepared.train
    ]
    assert here.report.sources[0].problems[0].startswith("a.jsonl:4: ")
    assert len(preparations) == 1
    (folder / "sub" / "b.jsonl").rename(folder / "0.jsonl")
    assert next(iter(prepare(str(folder)).train)).source.startswith(f"{folder}/0.jsonl")
    assert len(preparations) == 2


def test_template_tokenizer_and_code_count(
    tmp_path: Path, preparations: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_rows(tmp_path / "a.jsonl", range(60))
    data = DataConfig(datasets=[path], max_length=400, max_malformed_share=0.5, dataset_num_proc=1)

    def prepare(tokenizer: Any) -> int:
        prepare_datasets(data, tokenizer, seed=0)
        return len(preparations)

    assert prepare(TOKENIZER) == prepare(byte_level_tokenizer(FAMILIES["chatml"][0])) == 1
    assert prepare(byte_level_tokenizer(FAMILIES["chatml"][0] + " ")) == 2
    other = byte_level_tokenizer(FAMILIES["chatml"][0])
    other.add_tokens(["answer"])
    assert prepare(other) == 3
    other.eos_token = "<|im_end|>"
    assert prepare(other) == 4
    # What is set for one call of a tokenizer does not count.
    other("x", truncation=True, max_length=3)
    assert prepare(other) == 4
    monkeypatch.setattr(fingerprint, "_code", lambda encoder: {"hf_align": "other"})
    assert prepare(other) == 5


def test_a_template_that_writes_the_date_counts_for_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    dated = byte_level_tokenizer(FAMILIES["chatml"][0] + "{# strftime_now #}")
    plain = byte_level_tokenizer(FAMILIES["chatml"][0])
    before = fingerprint.tokenizer_state(dated), fingerprint.tokenizer_state(plain)

    class Tomorrow:
        @staticmethod
        def today() -> Any:
            import datetime

            return datetime.date.today() + datetime.timedelta(days=1)

    monkeypatch.setattr(fingerprint, "datetime", type("module", (), {"date": Tomorrow}))
    assert fingerprint.tokenizer_state(dated) != before[0]
    assert fingerprint.tokenizer_state(plain) == before[1]


def test_hub_rows_are_kept_by_the_files_that_the_client_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preparations: list[str]
) -> None:
    import datasets

    monkeypatch.chdir(tmp_path)
    rows = [row for row in map(any_row, range(60)) if isinstance(row, dict)]
    table = datasets.Dataset.from_list(rows)
    table.save_to_disk(str(tmp_path / "disk"))
    loaded = datasets.load_from_disk(str(tmp_path / "disk"))
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: loaded)
    first = content_of(prepare("owner/rows"))
    assert content_of(prepare("owner/rows")) == first
    assert preparations == ["rows"]
    # Rows in memory have no files to tell them by.
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: table)
    prepare("owner/rows")
    prepare("owner/rows")
    assert preparations == ["rows"] * 3


def test_a_tokenizer_class_without_readable_code_is_not_cached(
    tmp_path: Path, preparations: list[str]
) -> None:
    tokenizer = byte_level_tokenizer(FAMILIES["chatml"][0])
    kind = type("Unknown", (type(tokenizer),), {"__module__": "nowhere"})
    tokenizer.__class__ = kind
    data = DataConfig(
        datasets=[write_rows(tmp_path / "a.jsonl", range(60))], max_length=400, max_malformed_share=0.5
    )
    for _ in range(2):
        assert len(prepare_datasets(data, tokenizer, seed=0).train) > 30  # type: ignore[arg-type]
    assert preparations == ["a.jsonl"] * 2


def test_the_kind_of_rows_counts() -> None:
    """Rows of two kinds may come of the same file, options and tokenizer."""
    encoders = [
        make_encoder(TOKENIZER, train_on="last"),
        ComparisonEncoder(make_encoder(TOKENIZER, train_on="last")),
        Seq2SeqEncoder(TOKENIZER),
        LabelledEncoder(TOKENIZER),
        LabelledEncoder(TOKENIZER, separator=" "),
    ]
    data, files = DataConfig(datasets="x"), fingerprint.Files((), (), "")
    keys = [
        fingerprint.source_key(data.datasets[0], data, encoder, files, keep_examples=True)
        for encoder in encoders
    ]
    assert len(set(keys)) == len(encoders) and None not in keys


def test_code_counts_by_what_it_does(tmp_path: Path) -> None:
    """An edit of a module that takes part changes the key; of a comment, or of another module, does not."""
    package = tmp_path / "hf_align"
    for path in PACKAGE.rglob("*.py"):
        copy = package / path.relative_to(PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())

    def digest() -> str:
        return digest_of_modules(
            "hf_align.data.store.datasets", "hf_align.data.chat.rendering", package=package
        )

    def after(name: str, change: Callable[[str], str]) -> str:
        path = package / name
        before = path.read_text(encoding="utf-8")
        path.write_text(change(before), encoding="utf-8")
        found = digest()
        path.write_text(before, encoding="utf-8")
        return found

    first = digest()
    assert first == digest_of_modules("hf_align.data.store.datasets", "hf_align.data.chat.rendering")
    for name in TAKES_PART:
        assert after(name, lambda code: code + "\nADDED = 1\n") != first, name
        assert after(name, lambda code: "# of the day\n" + code + "\n# and more\n") == first, name
        assert after(name, lambda code: re.sub('^"""', '"""Words. ', code)) == first, name
    for name in ("data/packing.py", "data/comparisons/batches.py", "classify/data.py", "config/data.py"):
        assert (package / name).is_file()
        assert after(name, lambda code: code + "\nADDED = 1\n") == first, name


def test_code_of_another_package_is_none_of_ours() -> None:
    with pytest.raises(ValueError, match="json is no module"):
        digest_of_modules("json")


def test_rows_of_a_slow_tokenizer_are_not_kept() -> None:
    slow = types.SimpleNamespace(is_fast=False)
    data, files = DataConfig(datasets="x"), fingerprint.Files((), (), "")
    encoder = Seq2SeqEncoder(slow)
    assert fingerprint.source_key(data.datasets[0], data, encoder, files, keep_examples=True) is None
