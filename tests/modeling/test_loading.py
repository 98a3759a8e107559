from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.tiny_checkpoint import save_tiny_checkpoint
from helpers.tiny_models import tiny_model
from safetensors.torch import load_file, save_file

from hf_align.config import ModelConfig
from hf_align.errors import UserError
from hf_align.modeling.loading import check_vocabulary, load_model, load_tokenizer
from hf_align.modeling.positions import check_context


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("model"))


def loaded(name: str, **options):
    settings = {"trainable_base": True, "precision": "bf16", **options}
    return load_model(ModelConfig(name), use_cpu=True, **settings)


def test_weights_that_are_trained_are_float32_and_a_frozen_base_is_not(folder: str) -> None:
    assert loaded(folder).dtype == torch.float32
    assert loaded(folder, trainable_base=False).dtype == torch.bfloat16
    assert loaded(folder, trainable_base=False, precision="fp32").dtype == torch.float32
    model = load_model(
        ModelConfig(folder, dtype="bfloat16"), trainable_base=True, precision="fp32", use_cpu=True
    )
    assert model.dtype == torch.bfloat16


def test_folders_that_are_not_there_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a fresh checkout, where models/ itself is not there yet
    for name in (str(tmp_path / "nothing"), "./nothing", "models/nothing/deeper"):
        with pytest.raises(UserError, match=r"model_name_or_path: the folder '.*nothing.*' does not exist"):
            load_tokenizer(ModelConfig(name))
    with pytest.raises(UserError, match="make model"):
        load_tokenizer(ModelConfig("models/no-such-model"))
    (tmp_path / "recipes" / "pretrain").mkdir(parents=True)
    for name in ("t5_tiny", "quickstart"):
        (tmp_path / "recipes" / "pretrain" / f"{name}.yaml").touch()
    for folder, recipe in (("runs/pretrain_t5_tiny", "t5_tiny"), ("runs/pretrain", "quickstart")):
        with pytest.raises(UserError, match=f"make pretrain RECIPE=recipes/pretrain/{recipe}.yaml` makes it"):
            load_tokenizer(ModelConfig(folder))
    with pytest.raises(UserError, match=r"'runs/pretrain_other' does not exist\.$"):
        load_tokenizer(ModelConfig("runs/pretrain_other"))


def test_a_folder_without_a_model_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no causal language model could be loaded"):
        loaded(str(tmp_path))
    with pytest.raises(UserError, match="no tokenizer could be loaded"):
        load_tokenizer(ModelConfig(str(tmp_path)))


def test_pickled_weights_are_not_read(folder: str, tmp_path: Path) -> None:
    save_tiny_checkpoint(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    torch.save(weights, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="no causal language model could be loaded"):
        loaded(str(tmp_path))


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    save_tiny_checkpoint(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    next(iter(weights.values())).view(-1)[3] = float("nan")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="not finite"):
        loaded(str(tmp_path))


def test_missing_weights_are_not_replaced_by_random_ones(tmp_path: Path) -> None:
    save_tiny_checkpoint(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.layers.0.mlp.down_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks the weights model\.layers\.0\.mlp\.down_proj\.weight"):
        loaded(str(tmp_path))


def test_a_tied_head_is_not_missing(tmp_path: Path) -> None:
    save_tiny_checkpoint(tmp_path, tie_word_embeddings=True)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    assert loaded(str(tmp_path)).dtype == torch.float32


def test_broken_files_are_user_errors(tmp_path: Path) -> None:
    save_tiny_checkpoint(tmp_path)
    content = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="no causal language model could be loaded"):
        loaded(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"')
    with pytest.raises(UserError, match="no tokenizer could be loaded"):
        load_tokenizer(ModelConfig(str(tmp_path)))


def test_an_adapter_is_not_trained_as_if_it_were_a_model(folder: str, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    get_peft_model(loaded(folder), LoraConfig(task_type="CAUSAL_LM")).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"holds an adapter.*hf-align merge"):
        loaded(str(tmp_path))


def test_tokens_without_an_embedding_and_rows_beyond_the_positions(folder: str) -> None:
    model, tokenizer = loaded(folder), load_tokenizer(ModelConfig(folder))
    check_vocabulary(model, tokenizer)
    tokenizer.add_tokens(["<new>"])
    with pytest.raises(UserError, match="embeddings for"):
        check_vocabulary(model, tokenizer)
    check_context(model, 256)
    with pytest.raises(UserError, match=r"rows have up to 257 tokens.*256 positions"):
        check_context(model, 257)


def test_chat_template_replaces_the_tokenizers_own_and_pad_falls_back_to_eos(tmp_path: Path) -> None:
    save_tiny_checkpoint(tmp_path)
    own = load_tokenizer(ModelConfig(str(tmp_path)))
    (tmp_path / "other.jinja").write_text("{{ messages[0].content }}", encoding="utf-8")
    other = load_tokenizer(ModelConfig(str(tmp_path), chat_template_path=str(tmp_path / "other.jinja")))
    assert other.chat_template == "{{ messages[0].content }}" != own.chat_template
    own.pad_token = None
    own.save_pretrained(tmp_path)
    assert load_tokenizer(ModelConfig(str(tmp_path))).pad_token == own.eos_token


def test_attention_scores_stay_soft_capped(tmp_path: Path) -> None:
    # "sdpa" would leave the cap out, and some releases choose it.
    model = tiny_model("gemma2")
    assert model.config.attn_logit_softcapping == 3.0
    model.set_attn_implementation("eager")
    model.save_pretrained(tmp_path)
    ids = torch.arange(3, 12)[None]
    expected = model(input_ids=ids).logits
    found = load_model(ModelConfig(str(tmp_path)), trainable_base=True, precision="fp32", use_cpu=True)
    torch.testing.assert_close(found(input_ids=ids).logits, expected)
    for layer in model.model.layers:
        layer.self_attn.attn_logit_softcapping = 300.0
    assert (model(input_ids=ids).logits - expected).abs().max() > 0.01
