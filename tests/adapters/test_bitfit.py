"""BitFit beside the head of a task, and on models of other kinds."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

from hf_align.adapters.factory import apply_adapter
from hf_align.config import AdapterConfig
from hf_align.errors import UserError

IDS = torch.arange(5, 15)[None]


def test_biases_and_the_head_of_the_task_are_all_that_is_trained() -> None:
    config = AutoConfig.for_model(
        "bert",
        vocab_size=97,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        num_labels=3,
    )
    base = AutoModelForSequenceClassification.from_config(config)
    # Every linear layer and norm of the trunk has a bias: of each block four of the attention, two norms and
    # two of the feed-forward part, and the norm of the embeddings and the pooler.
    biases = [name for name, _ in base.bert.named_parameters() if name.endswith("bias")]
    assert len(biases) == 2 * 8 + 2
    model = apply_adapter(base, AdapterConfig(adapter="bitfit"), task_type="SEQ_CLS", head=["classifier"])
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    head = {name for name in trained if ".modules_to_save." in name}
    assert sum(trained[name].numel() for name in head) == 32 * 3 + 3
    assert len(trained) - len(head) == len(biases)
    model(input_ids=IDS, labels=torch.tensor([1])).loss.backward()
    assert all(p.grad is not None for p in trained.values())


def test_t5_has_no_biases() -> None:
    config = AutoConfig.for_model("t5", vocab_size=97, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=4)
    with pytest.raises(UserError, match=r"T5ForConditionalGeneration has none.*ln_tuning"):
        apply_adapter(
            AutoModelForSeq2SeqLM.from_config(config),
            AdapterConfig(adapter="bitfit"),
            task_type="SEQ_2_SEQ_LM",
        )
