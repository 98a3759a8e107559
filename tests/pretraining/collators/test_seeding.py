"""Every objective: the noise is a function of (seed, epoch, index), in any batch and any worker process."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from helpers.pretraining_tokenizers import (
    byte_level_bpe_tokenizer,
    random_rows,
    unigram_tokenizer,
    unmarked_tokenizer,
    wordpiece_tokenizer,
)
from torch.utils.data import DataLoader

from hf_align.errors import UserError
from hf_align.pretraining.collators import OBJECTIVES, IndexedDataset, make_collator
from hf_align.types import TokenizedRow

TOKENIZERS = {
    "mlm": wordpiece_tokenizer,
    "wwm": byte_level_bpe_tokenizer,
    "mlm_nsp": wordpiece_tokenizer,
    "sop": wordpiece_tokenizer,
    "span_mlm": wordpiece_tokenizer,
    "text_infilling": byte_level_bpe_tokenizer,
    "span_corruption": unigram_tokenizer,
    "prefix_lm": unigram_tokenizer,
    "decoder_prefix_lm": unigram_tokenizer,
    "causal": unigram_tokenizer,
}
RANDOM = sorted(set(OBJECTIVES) - {"causal"})
LENGTHS = [40, 7, 3, 60, 21, 60]


def _examples(name: str) -> list[dict]:
    tokenizer = TOKENIZERS[name]()
    if OBJECTIVES[name].examples == "pairs":
        rows = random_rows(tokenizer, LENGTHS, specials=False)
        return [{"first": row[:2], "second": row[2:], "label": i % 2} for i, row in enumerate(rows)]
    specials = OBJECTIVES[name].examples == "with_specials"
    return [{"input_ids": row} for row in random_rows(tokenizer, LENGTHS, specials=specials)]


def _indexed(name: str, **more: int) -> list[dict]:
    return [{**example, "index": index, **more} for index, example in enumerate(_examples(name))]


def _row(batch: dict[str, torch.Tensor], number: int) -> dict[str, list]:
    """One row without its padding; a T x T mask is left to its own test."""
    row = {}
    for name, tensor in batch.items():
        values = tensor[number]
        if values.ndim > 1:
            continue
        if name == "labels":
            values = (
                values[: int((values != -100).nonzero().max()) + 1] if (values != -100).any() else values[:0]
            )
        elif name == "input_ids":
            while len(values) and values[-1] in (0, 1):  # padding (0 or 1), or EOS 1, alike in both
                values = values[:-1]
        elif values.ndim and "attention_mask" in batch and batch["attention_mask"].ndim == 2:
            values = values[batch["attention_mask"][number].bool()]
        row[name] = values.tolist()
    return row


def test_the_table_is_covered():
    assert set(TOKENIZERS) == set(OBJECTIVES)


@pytest.mark.parametrize("name", RANDOM)
def test_the_same_batch_twice(name):
    first, second = (
        make_collator(name, TOKENIZERS[name](), seed=3)(_indexed(name, epoch=2)) for _ in range(2)
    )
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", RANDOM)
def test_rows_do_not_depend_on_their_batch(name):
    collator = make_collator(name, TOKENIZERS[name]())
    examples = _indexed(name, epoch=1)
    together = collator(examples)
    for order in ([3], [5, 0], [4, 3, 2, 1]):
        batch = collator([examples[i] for i in order])
        for place, i in enumerate(order):
            assert _row(batch, place) == _row(together, i)


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("change", [{"epoch": 1}, {"seed": 1}, {"index": 100}])
def test_epoch_seed_and_index_change_the_noise(name, change):
    tokenizer = TOKENIZERS[name]()
    seed = change.get("seed", 0)
    examples = _indexed(name, epoch=change.get("epoch", 0))
    for example in examples:
        example["index"] += change.get("index", 0)
    before, after = (
        make_collator(name, tokenizer)(_indexed(name)),
        make_collator(name, tokenizer, seed=seed)(examples),
    )
    same = [_row(before, i) == _row(after, i) for i in range(len(LENGTHS))]
    # A short row can meet the same noise again; the four long ones do not all.
    assert sum(same) <= 3


@pytest.mark.parametrize("name", RANDOM)
def test_the_epoch_may_come_from_the_collator_or_the_example(name):
    collator = make_collator(name, TOKENIZERS[name]())
    by_example = collator(_indexed(name, epoch=4))
    collator.set_epoch(4)
    by_collator = collator(_indexed(name))
    assert all(torch.equal(by_example[key], by_collator[key]) for key in by_example)
    # What an example says comes first.
    first = collator(_indexed(name, epoch=0))
    assert any(_row(first, i) != _row(by_collator, i) for i in range(len(LENGTHS)))


@pytest.mark.parametrize("name", RANDOM)
def test_examples_without_an_index_are_told_apart_by_their_ids(name):
    collator = make_collator(name, TOKENIZERS[name]())
    examples = _examples(name)
    together, turned = collator(examples), collator(examples[::-1])
    for i in range(len(examples)):
        assert _row(together, i) == _row(turned, len(examples) - 1 - i)
    collator.set_epoch(1)
    other = collator(examples)
    assert sum(_row(together, i) == _row(other, i) for i in range(len(examples))) <= 3


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_lists_arrays_tensors_and_rows_of_this_package(kind):
    collator = make_collator("mlm", wordpiece_tokenizer())
    rows = random_rows(wordpiece_tokenizer(), [12, 9])
    expected = collator([{"input_ids": row} for row in rows])["labels"]
    assert torch.equal(collator([{"input_ids": kind(row)} for row in rows])["labels"], expected)
    assert torch.equal(collator([kind(row) for row in rows])["labels"], expected)
    ids = [np.array(row, dtype=np.int32) for row in rows]
    assert torch.equal(collator([TokenizedRow(i, np.ones(len(i), bool)) for i in ids])["labels"], expected)


def _epoch_rows(loader: DataLoader) -> dict[tuple, list]:
    found = {}
    for batch in loader:
        for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
            original = torch.where(labels == -100, ids, labels).tolist()
            found[tuple(original)] = labels.tolist()
    return found


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
@pytest.mark.parametrize("by", ["dataset", "collator"])
def test_worker_processes_that_live_on_see_the_epoch(context, by):
    tokenizer = wordpiece_tokenizer()
    rows = random_rows(tokenizer, [30] * 16)
    collator, dataset = make_collator("mlm", tokenizer), IndexedDataset(rows)
    loader = DataLoader(
        dataset,
        batch_size=4,
        shuffle=True,
        num_workers=1,
        persistent_workers=True,
        multiprocessing_context=context,
        collate_fn=collator,
    )
    plain = DataLoader(IndexedDataset(rows), batch_size=16, collate_fn=make_collator("mlm", tokenizer))
    epochs = []
    for epoch in range(2):
        (dataset if by == "dataset" else collator).set_epoch(epoch)
        plain.dataset.set_epoch(epoch)
        epochs.append(_epoch_rows(loader))
        # One process and one batch give what worker processes and shuffled batches of four give.
        assert epochs[-1] == _epoch_rows(plain)
    assert len(epochs[0]) == 16
    assert sum(epochs[0][row] == epochs[1][row] for row in epochs[0]) <= 1


def test_collators_can_be_pickled_and_are_frozen():
    collator = make_collator("wwm", byte_level_bpe_tokenizer(), seed=5)
    collator.set_epoch(2)
    examples = [{"input_ids": row} for row in random_rows(byte_level_bpe_tokenizer(), [20, 30])]
    copy = pickle.loads(pickle.dumps(collator))
    assert torch.equal(copy(examples)["labels"], collator(examples)["labels"])
    with pytest.raises(AttributeError):
        collator.seed = 6


def test_indexed_dataset():
    dataset = IndexedDataset([{"input_ids": [1], "label": 3}, [4, 5]])
    assert len(dataset) == 2
    assert dataset[0] == {"input_ids": [1], "label": 3, "index": 0}
    assert dataset[1] == {"input_ids": [4, 5], "index": 1}
    dataset.set_epoch(7)
    assert dataset[1] == {"input_ids": [4, 5], "index": 1, "epoch": 7}


def test_unknown_objectives_and_options_are_explained():
    tokenizer = wordpiece_tokenizer()
    with pytest.raises(
        UserError, match=r"objective: found 'span_corruptoin'.*Did you mean 'span_corruption'"
    ):
        make_collator("span_corruptoin", tokenizer)
    with pytest.raises(
        UserError, match=r"mlm has no option 'mlm_probabilty'.*Did you mean 'mlm_probability'"
    ):
        make_collator("mlm", tokenizer, mlm_probabilty=0.2)
    with pytest.raises(UserError, match="wwm has no option 'whole_words'"):
        make_collator("wwm", tokenizer, whole_words=False)


@pytest.mark.parametrize("name", ["mlm", "wwm", "mlm_nsp", "sop", "span_mlm", "text_infilling"])
def test_objectives_with_masks_name_the_missing_mask_token(name):
    with pytest.raises(UserError, match=r"no mask token.*add_special_tokens\(\{'mask_token'"):
        make_collator(name, unigram_tokenizer())


def test_the_same_noise_with_and_without_whole_word_marks():
    # Single tokens need no marks: a vocabulary without them is fine for plain masking.
    assert make_collator("mlm", unmarked_tokenizer())([[1, 1, 1]])["labels"].ne(-100).sum() == 1
