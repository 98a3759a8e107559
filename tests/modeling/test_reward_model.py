"""Reward models from checkpoints of every kind: what is new, what is kept, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_checkpoint import save_tiny_checkpoint
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, PreTrainedModel

from hf_align.config import ModelConfig
from hf_align.errors import UserError
from hf_align.modeling.loading import load_model
from hf_align.modeling.reward_model import head_modules, load_reward_base

ENCODER = {
    "vocab_size": 60,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
ENCODERS: dict[str, tuple[dict[str, Any], list[str], str]] = {
    # The pooler is no part of a masked language model and is as new as the classifier.
    "bert": (ENCODER, ["classifier", "pooler"], "classifier"),
    "roberta": (ENCODER, ["classifier"], "classifier.out_proj"),
    "modernbert": ({**ENCODER, "pad_token_id": 0}, ["head", "classifier"], "classifier"),
    "distilbert": (
        {"vocab_size": 60, "dim": 64, "hidden_dim": 64, "n_layers": 2, "n_heads": 4},
        ["pre_classifier", "classifier"],
        "classifier",
    ),
}


def loaded(folder: str, **options: Any) -> PreTrainedModel:
    settings = {"trainable_base": True, "precision": "fp32", "use_cpu": True, **options}
    return load_reward_base(ModelConfig(folder), **settings)


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("decoder"), hidden_size=256)


def save_encoder(folder: Path, family: str) -> str:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **ENCODERS[family][0])
    AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    return str(folder)


def test_the_head_of_a_decoder_is_drawn_with_variance_one_over_width_plus_one(decoder: str) -> None:
    torch.manual_seed(1)
    model = loaded(decoder)
    assert head_modules(model) == ["score"]
    head: Any = model.score
    assert head.weight.shape == (1, 256)
    assert head.bias is None
    draws = []
    for seed in range(20):
        torch.manual_seed(seed)
        draws.append(loaded(decoder).score.weight.detach().flatten())  # type: ignore[union-attr]
    weights = torch.cat(draws)
    # 5120 draws: the sample variance is within 3 * sqrt(2 / 5120) = 6 % of the true one.
    assert weights.var().item() == pytest.approx(1 / 257, rel=0.06)
    assert weights.mean().item() == pytest.approx(0, abs=3 * 257**-0.5 / 5120**0.5)


def test_a_zero_head_scores_zero(decoder: str) -> None:
    model = loaded(decoder, head_init="zero").eval()
    assert model(input_ids=torch.tensor([[3, 4, 5]])).logits.tolist() == [[0.0]]


def test_the_trunk_is_that_of_the_checkpoint(decoder: str) -> None:
    trunk = load_file(Path(decoder) / "model.safetensors")
    for name, weight in loaded(decoder).state_dict().items():
        assert name == "score.weight" or torch.equal(weight, trunk[name])


@pytest.mark.parametrize("family", ENCODERS)
def test_encoders_get_a_head(tmp_path: Path, family: str) -> None:
    folder = save_encoder(tmp_path, family)
    model = loaded(folder, head_init="zero").eval()
    _, parts, last = ENCODERS[family]
    assert head_modules(model) == parts
    layer = model.get_submodule(last)
    assert not layer.weight.any() and not layer.bias.any()
    assert model(input_ids=torch.tensor([[3, 4, 5]])).logits.tolist() == [[0.0]]
    assert loaded(folder).get_submodule(last).weight.any()


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_quantised_encoder_keeps_its_head_as_it_is(tmp_path: Path, family: str) -> None:
    from bitsandbytes.nn import Linear4bit

    config = ModelConfig(save_encoder(tmp_path, family), load_in_4bit=True)
    model = load_reward_base(config, trainable_base=False, precision="bf16", use_cpu=True)
    parts = head_modules(model)
    for name, module in model.named_modules():
        in_head = bool(set(name.split(".")[:2]) & set(parts))
        assert not (in_head and isinstance(module, Linear4bit)), name
        if in_head:
            assert all(parameter.dtype == torch.float32 for parameter in module.parameters()), name
    assert any(isinstance(module, Linear4bit) for module in model.modules())


def test_the_head_on_a_frozen_base_is_float32(decoder: str) -> None:
    model = loaded(decoder, trainable_base=False, precision="bf16")
    assert model.dtype == torch.bfloat16
    assert model.score.weight.dtype == torch.float32  # type: ignore[union-attr]


def test_a_head_that_is_there_is_kept(decoder: str, tmp_path: Path) -> None:
    first = loaded(decoder)
    first.save_pretrained(tmp_path)
    again = loaded(str(tmp_path), head_init="zero")
    assert torch.equal(again.score.weight, first.score.weight)  # type: ignore[union-attr,arg-type]
    assert torch.equal(
        loaded(str(tmp_path), head_init=None).score.weight,  # type: ignore[union-attr,arg-type]
        first.score.weight,  # type: ignore[union-attr,arg-type]
    )


def test_where_a_head_is_needed_a_language_model_is_refused(decoder: str) -> None:
    with pytest.raises(UserError, match=r"is no reward model: it has no head \(score\.weight missing\)"):
        loaded(decoder, head_init=None)


def test_other_missing_weights_are_not_replaced_by_random_ones(tmp_path: Path) -> None:
    save_tiny_checkpoint(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.layers.0.mlp.down_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks the weights model\.layers\.0\.mlp\.down_proj\.weight"):
        loaded(str(tmp_path))


def test_classifiers_with_several_labels_are_refused(decoder: str, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    AutoModelForSequenceClassification.from_pretrained(decoder, num_labels=3).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="is a classifier with 3 labels; expected a reward model"):
        loaded(str(tmp_path))


def test_encoder_decoders_are_refused(tmp_path: Path) -> None:
    config = AutoConfig.for_model("t5", vocab_size=60, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    AutoModelForSeq2SeqLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"is an encoder-decoder model \(t5\)"):
        loaded(str(tmp_path))


def test_models_without_a_classifier_and_folders_without_a_model_are_user_errors(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    config = AutoConfig.for_model("mamba", vocab_size=60, hidden_size=16, num_hidden_layers=1)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "mamba")
    for options in ({}, {"load_in_4bit": True}):
        with pytest.raises(UserError, match="no sequence classification model could be loaded"):
            load_reward_base(
                ModelConfig(str(tmp_path / "mamba"), **options),
                trainable_base=False,
                precision="fp32",
                use_cpu=True,
            )
    with pytest.raises(UserError, match="no sequence classification model could be loaded"):
        loaded(str(tmp_path))
    with pytest.raises(UserError, match="does not exist"):
        loaded(str(tmp_path / "nothing"))


def test_a_reward_model_is_no_language_model(tmp_path: Path) -> None:
    """With tied embeddings a head would be found for it, and text would come out."""
    decoder = save_tiny_checkpoint(tmp_path / "tied", tie_word_embeddings=True)
    loaded(decoder).save_pretrained(tmp_path / "reward")
    with pytest.raises(UserError, match=r"holds a reward model .*LlamaForSequenceClassification"):
        load_model(ModelConfig(str(tmp_path / "reward")), trainable_base=True, precision="fp32", use_cpu=True)
