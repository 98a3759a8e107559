"""Perplexity: every token once, with context; metrics by hand; the same numbers however it is computed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tiny_checkpoint import save_tiny_checkpoint, tiny_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import processors
from transformers import AutoModelForCausalLM

from hf_align.config import DatasetConfig
from hf_align.data.reading.raw import MalformedRow
from hf_align.errors import UserError
from hf_align.evaluation.perplexity import (
    ScoredDocument,
    Sums,
    measure_perplexity,
    perplexity_metrics,
    read_documents,
    windows,
)
from hf_align.evaluation.scoring import Scorer, make_scorer

TEXTS = ["Please send twelve lamps to Oslo. " * 9, "你好，世界。", "A lamp.", "Write the order as JSON. " * 4]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> str:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("model"), initializer_range=0.3)


def loaded(folder: str, **options) -> Scorer:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return make_scorer(model, options.pop("tokenizer", tiny_tokenizer()), precision="fp32", **options)


def with_bos():
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", tokenizer.bos_token_id)]
    )
    return tokenizer


def write(path: Path, rows: list[dict]) -> DatasetConfig:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return DatasetConfig(str(path))


@pytest.fixture
def texts(tmp_path) -> DatasetConfig:
    return write(tmp_path / "texts.jsonl", [{"text": text} for text in TEXTS])


@settings(deadline=None, max_examples=60)
@given(
    tokens=st.integers(1, 60),
    head=st.integers(0, 2),
    length=st.integers(4, 30),
    share=st.floats(0, 1),
    seed=st.integers(0, 9),
)
def test_windows_score_every_target_once_and_with_context(tokens, head, length, share, seed):
    stride = max(1, int(share * (length - head - 1)))
    ids = np.arange(head + tokens, dtype=np.int32)  # a token's id is its place
    mask = np.random.default_rng(seed).random(head + tokens) < 0.8
    mask[: max(1, head)] = False
    rows = windows(ScoredDocument("d", ids, mask, head, 0, 0), length, stride)
    scored = [int(token) for row in rows for token in row.input_ids[row.target_mask]]
    assert scored == np.flatnonzero(mask).tolist()
    for row in rows:
        assert len(row) <= length
        assert row.input_ids[:head].tolist() == list(range(head))
        body = row.input_ids[head:]
        assert (np.diff(body) == 1).all()
        first = int(np.flatnonzero(row.target_mask)[0])
        context = min(length - head - stride, int(row.input_ids[first]) - head)
        assert first - head >= context
        assert not row.target_mask[0]


def test_a_window_without_room_is_refused():
    document = ScoredDocument("d", np.arange(9, dtype=np.int32), np.ones(9, dtype=bool), 1, 9, 9)
    for length, stride in ((1, 1), (5, 0), (5, 5)):
        with pytest.raises(ValueError, match="no room"):
            windows(document, length, stride)


def test_metrics_by_hand():
    # Three tokens of probability 1/4 for "abcd", and one of 1/2 for "é" (one character, two bytes).
    sums = [Sums(3 * math.log(4), 3, 4, 4), Sums(math.log(2), 1, 1, 2)]
    found = perplexity_metrics(sums)
    assert found["nll"] == pytest.approx(7 * math.log(2))
    assert found["perplexity"] == pytest.approx(2 ** (7 / 4))
    assert found["token_bits"] == pytest.approx(7 / 4)
    assert found["bits_per_character"] == pytest.approx(7 / 5)
    assert found["bits_per_byte"] == pytest.approx(7 / 6)
    # Drawn again, there are both documents, twice the first (6/4 bits a byte), or twice the second (1/2).
    assert found["bits_per_byte_interval"] == pytest.approx([0.5, 1.5])
    assert found["perplexity_interval"] == pytest.approx([2.0, 4.0])
    assert perplexity_metrics(sums[:1])["perplexity_interval"] is None
    with pytest.raises(ValueError, match="no token"):
        perplexity_metrics([Sums(0.0, 0, 0, 0)])


def test_a_text_without_bos_leaves_out_its_first_token_and_that_one_s_characters(texts):
    found = [item for item in read_documents(texts, tiny_tokenizer()) if isinstance(item, ScoredDocument)]
    tokenizer = tiny_tokenizer()
    for document, text in zip(found, TEXTS, strict=True):
        ids = tokenizer(text)["input_ids"]
        assert document.ids.tolist() == ids and document.head == 0
        assert document.target_mask.tolist() == [False] + [True] * (len(ids) - 1)
    # The first token of the second text is half a character; its other bytes are counted with it.
    assert found[2].characters == len(TEXTS[2]) - len(tokenizer.decode([tokenizer(TEXTS[2])["input_ids"][0]]))
    assert found[2].bytes == found[2].characters


def test_a_tokenizer_with_bos_scores_every_character(texts):
    tokenizer = with_bos()
    for document, text in zip(read_documents(texts, tokenizer), TEXTS, strict=True):
        assert document.head == 1 and document.ids[0] == tokenizer.bos_token_id
        assert (document.characters, document.bytes) == (len(text), len(text.encode()))
        assert document.target_mask.tolist() == [False] + [True] * (len(document.ids) - 1)


def test_rows_with_answers_score_the_answers(tmp_path):
    rows = [
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Oslo é"}]},
        {"messages": [{"role": "user", "content": "only asked"}]},
    ]
    good, bad = read_documents(write(tmp_path / "a.jsonl", rows), tiny_tokenizer())
    tokenizer = tiny_tokenizer()
    assert tokenizer.decode(good.ids[good.target_mask]) == "Oslo é<|im_end|>"
    assert (good.characters, good.bytes, good.head) == (6, 7, 0)
    assert isinstance(bad, MalformedRow) and "a.jsonl:2" in str(bad)
    (plain,) = read_documents(
        write(tmp_path / "b.jsonl", [{"prompt": "1 2 ", "completion": "3 4"}]), tokenizer
    )
    assert tokenizer.decode(plain.ids[plain.target_mask]).strip() == "3 4"
    assert plain.characters == 3


@pytest.mark.parametrize("tokenizer", [tiny_tokenizer, with_bos])
def test_a_text_in_one_window_has_the_loss_that_transformers_computes(model_folder, texts, tokenizer):
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    total = 0.0
    for text in TEXTS:
        ids = torch.tensor([tokenizer()(text)["input_ids"]])
        with torch.no_grad():
            total += float(model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
    found, items = measure_perplexity(loaded(model_folder, tokenizer=tokenizer()), texts, length=256)
    assert found["nll"] == pytest.approx(total, rel=1e-5)
    assert items[:, 0].sum() * math.log(2) == pytest.approx(total, rel=1e-5)
    assert items[:, 1].sum() == found["bytes"]


def test_windows_give_what_each_window_gives_by_itself(model_folder, texts):
    """The token of each place is predicted from the tokens of its window, and from nothing else."""
    length, stride = 24, 7
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    total = 0.0
    for text in TEXTS:
        ids = tiny_tokenizer()(text)["input_ids"]
        for place in range(1, len(ids)):
            end = length if place < length else length + stride * ((place - length) // stride + 1)
            begin = max(0, min(end, len(ids)) - length)
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids[begin:place]])).logits[0, -1]
            total -= float(logits.log_softmax(-1)[ids[place]])
    found, _ = measure_perplexity(loaded(model_folder), texts, length=length, stride=stride)
    assert found["nll"] == pytest.approx(total, rel=1e-5)


def test_batches_and_padding_change_nothing(model_folder, texts):
    expected, _ = measure_perplexity(loaded(model_folder), texts, length=40)
    for options in (
        {"max_tokens": 1},
        {"max_tokens": 95},
        {"packing": False},
        {"packing": False, "max_tokens": 70},
    ):
        found, _ = measure_perplexity(loaded(model_folder, **options), texts, length=40)
        _assert_same(found, expected)


def _assert_same(found: dict, expected: dict) -> None:
    """``approx`` compares no nested values."""
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == (value if isinstance(value, dict) else pytest.approx(value, rel=1e-5)), key


def test_nothing_to_score(model_folder, tmp_path):
    with pytest.raises(UserError, match="no token of its 1 rows can be scored"):
        measure_perplexity(loaded(model_folder), write(tmp_path / "a.jsonl", [{"text": "A"}]), length=9)


@pytest.mark.parametrize(("bad", "good"), [(1, 9), (2, 120)])
def test_many_malformed_rows_are_refused(model_folder, tmp_path, bad, good):
    dataset = write(tmp_path / "some.jsonl", [{"text": "A lamp."}] * good + [{"text": ""}] * bad)
    words = (
        rf"some\.jsonl: {bad} of {bad + good} rows are malformed, .* 1%\. The\s+first:\n.*:{good + 1}: empty"
    )
    with pytest.raises(UserError, match=words):
        measure_perplexity(loaded(model_folder), dataset, length=32)


def test_a_malformed_row_is_counted(model_folder, tmp_path):
    dataset = write(tmp_path / "some.jsonl", [{"text": "A lamp."}] * 120 + [{"text": ""}])
    metrics, items = measure_perplexity(loaded(model_folder), dataset, length=32)
    assert (metrics["documents"], metrics["malformed"], len(items)) == (120, 1, 120)
