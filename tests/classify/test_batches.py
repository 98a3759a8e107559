"""Rows with labels in one micro-batch: where each ends, and which segment its tokens are of."""

from __future__ import annotations

import json

import numpy as np
from helpers.pretraining_tokenizers import wordpiece_tokenizer
from helpers.tiny_checkpoint import tiny_tokenizer

from hf_align.classify.batches import collate_labelled, without_label
from hf_align.classify.data import prepare_labelled
from hf_align.config import DataConfig


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def prepare(datasets, tokenizer=None, **options):
    given = {key: options.pop(key) for key in ("labels", "separator", "seed") if key in options}
    data = DataConfig(datasets=datasets, **options)
    return prepare_labelled(data, tokenizer or tiny_tokenizer(), **{"seed": 0, **given})


def test_batches_say_where_rows_end(tmp_path):
    rows = [{"sentence1": "the order " * n, "sentence2": "the city", "label": n % 2} for n in (1, 3, 2)]
    tokenizer = wordpiece_tokenizer()
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    made = prepare([write(tmp_path / "p.jsonl", rows)], tokenizer).train
    for packed in (True, False):
        batch = collate_labelled(made, packed=packed, pad_token_id=0, segment_ids=True)
        ids, kinds = batch.inputs.input_ids.flatten(), batch.segment_ids.flatten()
        assert (ids[batch.last_tokens] == tokenizer.sep_token_id).all()
        for row, end in zip(made, batch.last_tokens.tolist(), strict=True):
            span = slice(end + 1 - len(row), end + 1)
            np.testing.assert_array_equal(ids[span], row.input_ids)
            np.testing.assert_array_equal(kinds[span], row.segment_ids)
        assert batch.labels.tolist() == [1, 1, 0] and batch.numbers.tolist() == [0, 1, 2]
        assert int((kinds == 1).sum()) == sum(int(row.segment_ids.sum()) for row in made)
    assert without_label().label == -100
