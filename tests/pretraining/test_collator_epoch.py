"""A transformers ``Trainer`` gives a collator new noise in every epoch, and goes on where it was resumed."""

from __future__ import annotations

import pytest
import torch
from helpers.pretraining_tokenizers import indexed, random_rows, wordpiece_tokenizer
from transformers import BertConfig, BertForMaskedLM, Trainer, TrainingArguments

from hf_align.pretraining.collator_epoch import SetEpoch
from hf_align.pretraining.collators import IndexedDataset, MaskedLMCollator


class _Recording(MaskedLMCollator):
    """Notes the labels of every batch."""

    def __call__(self, examples):
        batch = super().__call__(examples)
        self.seen.append(batch["labels"].clone())
        return batch


def _trainer(tmp_path, rows, *, with_callback: bool, keep_columns: bool = True, epochs: int = 3) -> Trainer:
    tokenizer = wordpiece_tokenizer()
    collator = _Recording(tokenizer)
    object.__setattr__(collator, "seen", [])
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
    )
    torch.manual_seed(0)
    return Trainer(
        BertForMaskedLM(config),
        TrainingArguments(
            str(tmp_path),
            num_train_epochs=epochs,
            per_device_train_batch_size=2,
            use_cpu=True,
            report_to=[],
            remove_unused_columns=not keep_columns,
            save_strategy="epoch",
            disable_tqdm=True,
            logging_strategy="no",
        ),
        data_collator=collator,
        train_dataset=IndexedDataset(rows),
        callbacks=[SetEpoch(collator)] if with_callback else [],
    )


def _by_row(trainer: Trainer) -> list[dict[tuple, list]]:
    """For each epoch the labels by their row; rows have lengths that tell them apart."""
    epochs, current = [], {}
    for labels in trainer.data_collator.seen:
        for row in labels.tolist():
            current[len(epochs), len(current)] = row
        if len(current) == 4:
            epochs.append(sorted(current.values()))
            current = {}
    return epochs


@pytest.mark.parametrize(
    ("with_callback", "keep_columns"),
    [(True, True), (True, False), (False, True)],
    ids=["both", "callback", "data"],
)
def test_every_epoch_has_its_own_noise(tmp_path, monkeypatch, with_callback, keep_columns):
    rows = random_rows(wordpiece_tokenizer(), [60, 60, 60, 60])
    trainer = _trainer(tmp_path, rows, with_callback=with_callback, keep_columns=keep_columns)
    seen = trainer.data_collator.seen
    # Trainer wraps the collator where it takes columns away; the wrapper still calls it.
    trainer.train()
    assert len(seen) == 6
    epochs = _by_row(trainer)
    assert len(epochs) == 3
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    if keep_columns:
        for epoch, found in enumerate(epochs):
            expected = MaskedLMCollator(wordpiece_tokenizer())(indexed(rows, epoch=epoch))["labels"].tolist()
            assert found == sorted(expected)


def test_a_resumed_run_goes_on_with_the_noise_of_its_epoch(tmp_path):
    rows = random_rows(wordpiece_tokenizer(), [60, 60, 60, 60])
    whole = _trainer(tmp_path / "whole", rows, with_callback=True)
    whole.train()
    resumed = _trainer(tmp_path / "resumed", rows, with_callback=True)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert _by_row(resumed) == _by_row(whole)[1:]
