"""``train_new_tokens``: the rows that a vocabulary was extended by, trained beside LoRA, saved and merged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny_runs
from helpers.tiny_checkpoint import save_tiny_checkpoint, tiny_tokenizer
from helpers.tiny_corpus import CHINESE
from helpers.tiny_models import tiny_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from hf_align.adapters.factory import apply_adapter
from hf_align.config import AdapterConfig, ModelConfig
from hf_align.errors import UserError
from hf_align.modeling.new_tokens import add_embeddings, load_model_to_extend, new_token_ids, save_extended
from hf_align.saved_models.merging import merge
from hf_align.saved_models.run_models import attach_adapter, find_model, load_run_model
from hf_align.tokenization.extend import extend_tokenizer
from hf_align.tokenization.recipe import ExtendOptions

KEYS: dict[str, Any] = {"adapter": "lora", "lora_r": 2, "train_new_tokens": True}


def extended(folder: Path, **options: Any) -> str:
    """A model that ``hf-align tokenizer`` has given 20 Chinese tokens, with its tokenizer."""
    name = save_tiny_checkpoint(folder / "base", **options)
    tokenizer = tiny_tokenizer()
    extension = extend_tokenizer(
        tokenizer, lambda: CHINESE, ExtendOptions(extend=name, new_tokens=20), show_progress=False
    )
    model = load_model_to_extend(name, tokenizer)
    add_embeddings(model, extension)
    (folder / "extended").mkdir()
    save_extended(folder / "extended", extension, model)
    return str(folder / "extended")


def base_of(name: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32).eval()


@pytest.mark.parametrize("tied", [True, False])
def test_new_rows_alone_are_trained_saved_and_merged(tmp_path: Path, tied: bool) -> None:
    name = extended(tmp_path, tie_word_embeddings=tied)
    new = new_token_ids(name)
    base = base_of(name)
    start = [base.get_input_embeddings().weight.detach().clone()]
    start.append(base.get_output_embeddings().weight.detach().clone())
    ids = torch.tensor([[5, *new[:8], 7, *new[8:], 5]])
    before = base(input_ids=ids).logits.detach()
    model = apply_adapter(base, AdapterConfig(**KEYS)).eval()
    torch.testing.assert_close(model(input_ids=ids).logits, before)
    rows = {n: p for n, p in model.named_parameters() if p.requires_grad and "lora_" not in n}
    # An untied head has rows of its own.
    assert [tuple(p.shape) for p in rows.values()] == [(len(new), 32)] * (1 if tied else 2)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    trained = model(input_ids=ids).logits.detach()
    with model.disable_adapter():
        torch.testing.assert_close(model(input_ids=ids).logits, before)
    model.save_pretrained(tmp_path / "adapter")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(name)
    loaded = attach_adapter(base_of(name), tmp_path / "adapter", tokenizer)
    torch.testing.assert_close(loaded(input_ids=ids).logits, trained)
    merged = merge(loaded)
    torch.testing.assert_close(merged(input_ids=ids).logits, trained, rtol=1e-4, atol=1e-5)
    tables = [merged.get_input_embeddings().weight, merged.get_output_embeddings().weight]
    assert (tables[0] is tables[1]) is tied
    for table, was in zip(tables, start, strict=True):
        assert torch.equal(table[: new[0]], was[: new[0]])
        assert (table[new] != was[new]).any(dim=1).all()


@pytest.mark.slow
def test_through_the_command_and_back_in_one_call(tmp_path: Path) -> None:
    name = extended(tmp_path, tie_word_embeddings=True)
    new = new_token_ids(name)
    data = tmp_path / "rows.jsonl"
    rows = [{"instruction": "Say it.", "input": str(i), "output": text} for i, text in enumerate(CHINESE[:8])]
    data.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n", encoding="utf-8")
    inputs = {"model_name_or_path": name, "datasets": str(data), "eval_datasets": str(data)}
    keys = {**KEYS, "num_samples": 1, "sample_max_new_tokens": 30, "num_train_epochs": 1}
    record = tiny_runs.run(inputs, tmp_path / "run", **keys)
    trained = {part["name"]: part["parameters"] for part in record["model"]["trained"]}
    rows_of_them = [count for part, count in trained.items() if "token_adapter" in part]
    assert rows_of_them == [len(new) * 32]
    assert record["final_metrics"]["eval_loss"] < record["final_metrics"]["eval_loss_before"]
    model, tokenizer = load_run_model(
        find_model(ModelConfig(str(tmp_path / "run")), use_cpu=True), use_cpu=True
    )
    assert set(tokenizer(CHINESE[0]).input_ids) & set(new)
    moved = model.get_input_embeddings().weight - base_of(name).get_input_embeddings().weight
    assert not moved[: new[0]].any()
    assert moved[new].any()


@pytest.mark.parametrize("task_type", ["CAUSAL_LM", "SEQ_CLS"])
def test_gpt2_and_a_scorer_have_other_names_for_them(tmp_path: Path, task_type: str) -> None:
    (tmp_path / "new_tokens.json").write_text('{"first_id": 90, "count": 7, "tokens": []}')
    base: Any = tiny_model("gpt2")
    if task_type == "SEQ_CLS":
        from transformers import AutoModelForSequenceClassification

        base = AutoModelForSequenceClassification.from_config(base.config, dtype=torch.float32)
    base.name_or_path = str(tmp_path)
    model = apply_adapter(base, AdapterConfig(**KEYS), task_type=task_type)
    rows = {n: p for n, p in model.named_parameters() if p.requires_grad and "token_adapter" in n}
    assert [(name.split(".")[3], tuple(p.shape)) for name, p in rows.items()] == [("wte", (7, 32))]


def test_what_has_no_new_rows_is_refused(tmp_path: Path) -> None:
    base = tiny_model("llama")
    base.name_or_path = str(tmp_path)
    with pytest.raises(UserError, match=r"train_new_tokens: .* no list of new tokens.*hf-align tokenizer"):
        apply_adapter(base, AdapterConfig(**KEYS))
    (tmp_path / "new_tokens.json").write_text('{"first_id": 95, "count": 7, "tokens": []}')
    with pytest.raises(UserError, match=r"7 new tokens up to the id 101, and has embeddings for 97"):
        apply_adapter(base, AdapterConfig(**KEYS))
    (tmp_path / "new_tokens.json").write_text('{"first_id": 90, "count": 7, "tokens": []}')
    with pytest.raises(UserError, match=r"modules_to_save trains all rows of lm_head"):
        apply_adapter(base, AdapterConfig(**KEYS, modules_to_save=["lm_head"]))
    phi = tiny_model("phi")
    phi.name_or_path = str(tmp_path)
    with pytest.raises(UserError, match=r"the head of PhiForCausalLM has a bias.*\[embed_tokens, lm_head\]"):
        apply_adapter(phi, AdapterConfig(**KEYS))
    config = AutoConfig.for_model("t5", vocab_size=97, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=4)
    config.tie_word_embeddings = False
    t5 = AutoModelForSeq2SeqLM.from_config(config)
    t5.name_or_path = str(tmp_path)
    with pytest.raises(UserError, match="share their embeddings and the head has weights of its own"):
        apply_adapter(t5, AdapterConfig(**KEYS), task_type="SEQ_2_SEQ_LM")
