"""Names of classes where files, cards and the datasets library have them."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pyarrow.parquet
import pytest
from helpers.tiny_checkpoint import tiny_tokenizer

from hf_align.classify.data import classes_line, prepare_labelled
from hf_align.config import DataConfig, DatasetConfig
from hf_align.data.reading.class_labels import class_names
from hf_align.errors import UserError

NAMES = ("entailment", "neutral", "contradiction")
LABELS = [2, 0, -1, 1, 0]


def made() -> datasets.Dataset:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=list(NAMES))}
    )
    return datasets.Dataset.from_dict(
        {"text": [f"send {n} lamps" for n in range(5)], "label": LABELS}, features=features
    )


def sources(folder: Path) -> dict[str, str]:
    made().to_parquet(folder / "a.parquet")
    made().save_to_disk(str(folder / "saved"))
    (folder / "card").mkdir()
    rows = [{"text": f"send {n} lamps", "label": label} for n, label in enumerate(LABELS)]
    (folder / "card" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    names = "".join(f"          '{number}': {name}\n" for number, name in enumerate(NAMES))
    (folder / "card" / "README.md").write_text(
        "---\ndataset_info:\n  features:\n  - name: text\n    dtype: string\n  - name: label\n    dtype:\n"
        f"      class_label:\n        names:\n{names}"
        "configs:\n- config_name: default\n  data_files: '*.jsonl'\n---\n"
    )
    arrow = next((folder / "saved").glob("*.arrow"))
    paths = {
        "parquet": folder / "a.parquet",
        "saved": folder / "saved",
        "card": folder / "card",
        "arrow": arrow,
    }
    return {kind: str(path) for kind, path in paths.items()}


@pytest.mark.parametrize("kind", ["parquet", "saved", "card", "arrow"])
def test_classes_have_their_names(tmp_path: Path, kind: str) -> None:
    path = sources(tmp_path)[kind]
    assert class_names(DatasetConfig(path)) == {"label": NAMES}
    prepared = prepare_labelled(DataConfig(datasets=[path]), tiny_tokenizer(), seed=0)
    assert prepared.labels == NAMES and prepared.train_labels == [2, 1, 1]
    assert [row.label for row in prepared.train] == [2, 0, 1, 0]
    (report,) = prepared.report.sources
    assert (report.read, report.kept, report.unlabelled, report.malformed) == (5, 4, 1, 0)
    assert "1 without a class are left out" in prepared.report.summary()
    assert classes_line(prepared) == (
        "3 classes, with their training rows: entailment (2), neutral (1), contradiction (1)"
    )


def test_numbers_without_names_stay(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": f"t {n}", "label": n}) + "\n" for n in (-1, 0)))
    assert class_names(DatasetConfig(str(path))) == class_names(DatasetConfig("python_areas")) == {}
    assert prepare_labelled(DataConfig(datasets=[str(path)]), tiny_tokenizer(), seed=0).labels == ("-1", "0")


def test_a_number_beyond_the_names_and_broken_metadata(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    made().to_parquet(path)
    table = pyarrow.parquet.read_table(path)
    column = pyarrow.array([0, 1, 7, 0, 1], pyarrow.int64())
    pyarrow.parquet.write_table(table.set_column(1, "label", column), path)
    with pytest.raises(UserError, match=r"row 3: label: found 7; the data set names the classes 0 to 2"):
        prepare_labelled(DataConfig(datasets=[str(path)]), tiny_tokenizer(), seed=0)
    pyarrow.parquet.write_table(table.replace_schema_metadata({"huggingface": "{"}), path)
    with pytest.raises(UserError, match=r"a\.parquet: the features in its metadata cannot be read"):
        class_names(DatasetConfig(str(path)))
