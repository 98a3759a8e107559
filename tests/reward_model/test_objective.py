"""The reward objective and the head it reads: every score is that of a sequence by itself."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.comparisons import random_comparison
from helpers.tiny_models import PACKABLE, VOCABULARY, redraw
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from hf_align.data.comparisons.batches import collate_comparisons, without_pairs
from hf_align.errors import UserError
from hf_align.losses import listwise_ranking_loss
from hf_align.modeling.attention.packing_probe import enable_segment_attention, shares_prefixes
from hf_align.modeling.heads.reward import install_reward_head, reads_last_token
from hf_align.modeling.inputs import scoring_inputs
from hf_align.reward_model.objective import reward

ROWS = [
    random_comparison(7, (4, 6), seed=1),
    random_comparison(3, (5, 2, 7, 3), seed=2),
    random_comparison(0, (3, 4), seed=3),
]


def classifier(family: str, **options) -> PreTrainedModel:
    model_type, shape = PACKABLE.get(family, (family, {}))
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **{**shape, "num_labels": 1, "pad_token_id": 0, **options})
    model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32).eval()
    redraw(model, 0.15)
    return model


def alone(model: PreTrainedModel) -> torch.Tensor:
    """Scores by transformers' own forward, one sequence at a time."""
    ids = [
        torch.tensor(row.sequence(k).input_ids)[None].long() for row in ROWS for k in range(len(row.branches))
    ]
    with torch.no_grad():
        return torch.cat([model(input_ids=x, attention_mask=torch.ones_like(x)).logits[:, 0] for x in ids])


@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral", "gemma2", "gpt2", "gpt_neox", "phi"])
def test_packed_trees_and_padded_rows_score_like_sequences_by_themselves(family: str) -> None:
    model = classifier(family)
    if family in ("gemma2", "mistral"):
        model.set_attn_implementation("eager")
    expected = alone(model)
    assert reads_last_token(model) and enable_segment_attention(model) and shares_prefixes(model)
    install_reward_head(model)
    for options in ({"packed": True}, {"packed": True, "share_prefix": False}, {"packed": False}):
        scores = model(**scoring_inputs(collate_comparisons(ROWS, pad_token_id=0, **options))).scores
        torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)


def test_a_pad_id_that_is_the_last_token_does_not_move_the_score() -> None:
    model = classifier("llama")
    assert enable_segment_attention(model)
    install_reward_head(model)
    # transformers would read the score before a token of this id.
    last = int(ROWS[0].branches[0].input_ids[-1])
    scores = [
        model(**scoring_inputs(collate_comparisons(ROWS, packed=packed, pad_token_id=last))).scores
        for packed in (True, False)
    ]
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_encoders_pool_in_their_own_way(family: str) -> None:
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = classifier(family, vocab_size=VOCABULARY, max_position_embeddings=64, **shape)
    expected = alone(model)
    assert not reads_last_token(model)
    install_reward_head(model)
    scores = model(**scoring_inputs(collate_comparisons(ROWS, packed=False, pad_token_id=0))).scores
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)


def test_a_head_that_would_read_padding_is_refused() -> None:
    config = AutoConfig.for_model(
        "xlnet", vocab_size=97, d_model=32, n_layer=1, n_head=4, d_inner=48, num_labels=1
    )
    model = AutoModelForSequenceClassification.from_config(config)
    with pytest.raises(UserError, match="XLNetForSequenceClassification reads the last position"):
        install_reward_head(model)


def test_all_pairs_of_a_ranking_are_one_element() -> None:
    model = classifier("llama")
    scores = alone(model)
    assert enable_segment_attention(model)
    install_reward_head(model)
    result = reward(model, collate_comparisons(ROWS, packed=True))
    expected = sum(listwise_ranking_loss(part[None]).item() for part in scores.split([2, 4, 2]))
    assert result.loss_sum.item() == pytest.approx(expected, rel=1e-4)
    assert result.count == 3
    assert result.metrics["rewards/accuracies"].item() == pytest.approx(
        sum(
            (part[:, None] > part[None, :]).triu(1).sum().item() / math.comb(len(part), 2)
            for part in scores.split([2, 4, 2])
        ),
        rel=1e-5,
    )


def test_margin_and_centring_by_hand() -> None:
    model = classifier("llama")
    first, second = alone(model)[:2].tolist()
    assert enable_segment_attention(model)
    install_reward_head(model)
    row = random_comparison(7, (4, 6), seed=1)
    object.__setattr__(row, "margin", 0.7)
    result = reward(model, collate_comparisons([row], packed=True), centering=0.1)
    expected = math.log1p(math.exp(-(first - second - 0.7))) + 0.1 * (first + second) ** 2
    assert result.loss_sum.item() == pytest.approx(expected, rel=1e-4)
    assert result.details["margins"].tolist() == pytest.approx([first - second], rel=1e-4)
    assert result.details["length_differences"].tolist() == [3 - 5]


def test_a_filler_adds_nothing() -> None:
    model = classifier("llama")
    assert enable_segment_attention(model)
    install_reward_head(model)
    result = reward(model, collate_comparisons([without_pairs()], packed=True))
    assert result.loss_sum.item() == 0 and result.loss_sum.requires_grad
