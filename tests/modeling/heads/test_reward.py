"""The score of an answer is the one logit at its last token."""

from __future__ import annotations

import torch
from helpers.tiny_models import PACKABLE, redraw
from transformers import AutoConfig, AutoModelForSequenceClassification

from hf_align.modeling.heads.reward import install_reward_head


def test_scores_are_the_logits_at_the_named_tokens() -> None:
    kind, shape = PACKABLE["llama"]
    config = AutoConfig.for_model(kind, **{**shape, "num_labels": 1, "pad_token_id": 0})
    model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32).eval()
    redraw(model, 0.2)
    ids = torch.arange(3, 13).view(2, 5)
    states = model.model(ids).last_hidden_state.flatten(0, 1)
    install_reward_head(model)
    output = model(ids, last_tokens=torch.tensor([2, 9]))
    assert output.scores.shape == (2,) and output.scores.dtype == torch.float32
    torch.testing.assert_close(output.scores, model.score(states[[2, 9]])[:, 0])
    output.scores.sum().backward()
    assert model.score.weight.grad is not None
    # Without the keyword the model is transformers' own.
    assert model(ids).logits.shape == (2, 1)
