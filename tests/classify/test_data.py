"""Rows with labels: formats, labels, lengths, splits, batches."""

from __future__ import annotations

import json

import pytest
from helpers.pretraining_tokenizers import wordpiece_tokenizer
from helpers.tiny_checkpoint import tiny_tokenizer

from hf_align.classify.data import prepare_labelled
from hf_align.config import DataConfig, DatasetConfig
from hf_align.data.conversion.labels import read_label
from hf_align.data.labelled import separates_pairs
from hf_align.data.reading.raw import MalformedRow
from hf_align.errors import UserError


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def prepare(datasets, tokenizer=None, **options):
    given = {key: options.pop(key) for key in ("labels", "separator", "seed") if key in options}
    data = DataConfig(datasets=datasets, **options)
    return prepare_labelled(data, tokenizer or tiny_tokenizer(), **{"seed": 0, **given})


ROWS = [{"text": f"send {i} lamps", "label": i % 3} for i in range(12)]


def test_labels_are_found_in_order(tmp_path):
    numbers = write(tmp_path / "n.jsonl", [{"text": f"t {n}", "label": n} for n in (10, 9, -1)])
    assert prepare([numbers]).labels == ("-1", "9", "10"), "by value"
    words = write(tmp_path / "w.jsonl", [{"text": f"t {n}", "label": n} for n in ("b", 10, "a", True)])
    assert prepare([words]).labels == ("10", "a", "b", "true")
    assert prepare([numbers], labels=["9", "10", "-1"]).labels == ("9", "10", "-1")
    csv = tmp_path / "c.csv"
    csv.write_text("review,stars\ngood thing,5\nbad thing,1\n")
    data = prepare([DatasetConfig(str(csv), columns={"text": "review", "label": "stars"})])
    assert data.labels == ("1", "5") and [row.label for row in data.train] == [1, 0]
    assert data.train_labels == [1, 1] and data.report.sources[0].format == "labelled_text"


def test_rows_are_those_of_the_tokenizer(tmp_path):
    tokenizer = wordpiece_tokenizer()
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    pair = {"sentence1": "the order", "sentence2": "the city", "label": "yes"}
    path = write(tmp_path / "p.jsonl", [pair, {**pair, "label": "no"}])
    row = prepare([path], tokenizer).train[0]
    expected = tokenizer("the order", "the city")
    assert row.input_ids.tolist() == expected.input_ids
    assert row.segment_ids.tolist() == expected.token_type_ids and 1 in row.segment_ids
    # A tokenizer that puts nothing between two texts gets the separator.
    plain = tiny_tokenizer()
    assert separates_pairs(tokenizer) and not separates_pairs(plain)
    row = prepare([path], plain, separator=" / ").train[0]
    assert row.input_ids.tolist() == plain("the order / the city").input_ids


def test_long_rows_keep_their_special_tokens(tmp_path):
    tokenizer = wordpiece_tokenizer()
    path = write(tmp_path / "l.jsonl", [{"text": "the order " * n, "label": n} for n in (1, 30)])
    with pytest.raises(UserError, match="rows are longer than max_length = 16 tokens"):
        prepare([path], tokenizer, max_length=16)
    data = prepare([path], tokenizer, max_length=16, overlong="truncate")
    assert len(data.train[1]) == 16 and data.train[1].input_ids[-1] == tokenizer.sep_token_id
    report = data.report.sources[0]
    assert (report.truncated, report.overlong, report.kept) == (1, 1, 2)
    with pytest.raises(UserError, match="the label '1' alone"):
        prepare([path], tokenizer, max_length=16, overlong="drop")


@pytest.mark.parametrize(
    ("label", "reason"),
    [(None, "found null"), (1.5, "found a number"), (["a"], "found a list"), (" ", "empty label")],
)
def test_what_is_no_label(label, reason):
    with pytest.raises(MalformedRow, match=reason):
        read_label(label)


def test_malformed_rows_are_counted_and_limited(tmp_path):
    path = write(tmp_path / "m.jsonl", [*ROWS, {"text": "", "label": 1}, {"text": "a", "label": None}])
    with pytest.raises(UserError, match=r"(?s)2 of 14 rows are malformed.*m.jsonl:13: empty text"):
        prepare([path], max_malformed_share=0.1)
    report = prepare([path], max_malformed_share=0.2).report.sources[0]
    assert (report.read, report.kept, report.malformed) == (14, 12, 2)


def test_unknown_labels_and_columns_are_named(tmp_path):
    train = write(tmp_path / "t.jsonl", ROWS)
    other = write(tmp_path / "o.jsonl", [{"text": "a", "label": 0}, {"text": "a", "label": 7}])
    with pytest.raises(UserError, match=r"o.jsonl:2: found the label '7'; the training rows have 0, 1, 2"):
        prepare([train], eval_datasets=[other])
    with pytest.raises(UserError, match=r"t.jsonl:3: found the label '2'; the recipe's labels are 0, 1\."):
        prepare([train], labels=["0", "1"])
    bare = write(tmp_path / "b.jsonl", [{"review": "a", "stars": 1}])
    with pytest.raises(UserError, match="labelled_text: text, label"):
        prepare([bare])
    with pytest.raises(UserError, match="needs the column 'label', which is missing"):
        prepare([DatasetConfig(bare, format="labelled_text", columns={"text": "review"})])
    same = write(tmp_path / "s.jsonl", [{"text": "a", "label": 0}] * 3)
    with pytest.raises(UserError, match="the training rows have the label '0' alone"):
        prepare([same])


def test_held_out_rows_are_not_trained(tmp_path):
    path = write(tmp_path / "t.jsonl", ROWS)
    data = prepare([path], eval_split_size=0.25)
    assert len(data.train) == 9 and len(data.eval) == 3 and data.report.held_out == 3
    train, held_out = ({row.source for row in rows} for rows in (data.train, data.eval))
    assert not train & held_out and len(train | held_out) == 12
    for number, (row, text) in enumerate(zip(data.eval, data.eval_examples, strict=True)):
        assert row.source == text.source and row.number == number and data.labels[row.label] == text.label
    assert data.report.leaked == 0
    assert prepare([path], eval_split_size=0.25).train_fingerprint == data.train_fingerprint
    assert prepare([path], eval_split_size=0.25, seed=1).train_fingerprint != data.train_fingerprint
    weighted = prepare([{"path": path, "weight": 2.0}, write(tmp_path / "u.jsonl", ROWS)])
    assert len(weighted.train) == 36 and weighted.report.leaked == 0


def test_the_fingerprint_sees_labels(tmp_path):
    prints = []
    for name, labels in (("a", "xyx"), ("b", "xyy"), ("c", "xzx")):
        rows = [{"text": f"row {i}", "label": label} for i, label in enumerate(labels)]
        prints.append(prepare([write(tmp_path / f"{name}.jsonl", rows)]).train_fingerprint)
    assert len(set(prints)) == 3


def test_labels_of_one_number_have_one_order(tmp_path):
    for order in (("1", "01", "0"), ("01", "0", "1")):
        path = write(tmp_path / "n.jsonl", [{"text": f"t {n}", "label": n} for n in order])
        assert prepare([path]).labels == ("0", "01", "1")


def test_duplicates_are_counted(tmp_path):
    path = write(tmp_path / "d.jsonl", [*ROWS, ROWS[0], {**ROWS[0], "label": 2}])
    # Rows with the tokens of an earlier one, whatever their label.
    assert prepare([path]).report.sources[0].duplicates == 2
