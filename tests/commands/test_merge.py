"""``hf-align merge``: the merged model computes what base and adapter compute, or nothing is written."""

from __future__ import annotations

import json

import pytest
import torch
from helpers.tiny_adapters import save_adapter
from helpers.tiny_checkpoint import save_tiny_checkpoint
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_align.__main__ import main as hf_align
from hf_align.commands.merge import main
from hf_align.errors import UserError
from hf_align.saved_models import merging

IDS = torch.tensor([[1, 70, 71, 72, 80, 90, 100, 101, 5, 6]])


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Two bases: with separate embedding and head, and with tied ones."""
    folder = tmp_path_factory.mktemp("bases")
    wide = {"initializer_range": 0.15, "hidden_size": 64}
    return {
        tied: save_tiny_checkpoint(folder / str(tied), tie_word_embeddings=tied, **wide)
        for tied in (False, True)
    }


def logits(model, ids=IDS):
    with torch.no_grad():
        return model.eval()(input_ids=ids).logits.float()


def merge(adapter, out, *options):
    return main(
        ["--model_name_or_path", adapter, "--output_dir", str(out), "--use_cpu", "true", *map(str, options)]
    )


CASES = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "bias": {"bias": "all"},
    "head saved in full": {"modules_to_save": ["lm_head"]},
    "embedding saved in full": {"modules_to_save": ["embed_tokens"]},
    "both saved in full": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "embedding adapted": {"target_modules": ["q_proj", "embed_tokens"]},
    "head adapted": {"target_modules": ["q_proj", "lm_head"]},
    "new tokens": {"new_tokens": 3},
    "new tokens, saved in full": {"new_tokens": 3, "modules_to_save": ["embed_tokens", "lm_head"]},
    "new tokens, adapted": {"new_tokens": 3, "target_modules": ["q_proj", "embed_tokens"]},
    "single rows": {"trainable_token_indices": [5, 6]},
}


@pytest.mark.filterwarnings("ignore::UserWarning:peft.*")
@pytest.mark.parametrize(
    ("case", "tied"),
    [
        (case, tied)
        for case in CASES
        for tied in (False, True)
        if (case, tied) != ("new tokens, adapted", False)
    ],
)
def test_merged_equals_base_with_adapter(case, tied, bases, tmp_path):
    """Against PEFT's own forward pass, from files alone, with transformers' own loader."""
    adapter = save_adapter(tmp_path / "adapter", bases[tied], **CASES[case])
    content = merge(adapter, tmp_path / "out")
    base = AutoModelForCausalLM.from_pretrained(bases[tied])
    new = CASES[case].get("new_tokens", 0)
    ids = IDS
    if new:
        rows = base.get_input_embeddings().weight.shape[0]
        base.resize_token_embeddings(rows + new, mean_resizing=False)
        ids = torch.cat([IDS, torch.tensor([[rows, rows + new - 1]])], dim=1)
    expected = logits(PeftModel.from_pretrained(base, adapter), ids)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert (logits(merged, ids) - expected).abs().max() < 1e-4 * expected.std()
    assert content["effect_of_adapter"]["largest"] > 0.01
    assert (
        len(AutoTokenizer.from_pretrained(tmp_path / "out")) == merged.get_input_embeddings().weight.shape[0]
    )


def test_what_is_written(bases, tmp_path, capsys):
    adapter = save_adapter(tmp_path / "adapter", bases[True])
    content = merge(adapter, tmp_path / "deep" / "out")
    out = tmp_path / "deep" / "out"
    assert json.loads((out / "merge.json").read_text()) == content
    assert {path.name for path in out.iterdir()} >= {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja",
        "README.md",
    }  # fmt: skip
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert content["tolerance"] == merging.EXACT and content["save_dtype"] == "float32"
    assert content["adapter_kind"] == "LORA" and content["base_quantization"] is None
    tokenizer = AutoTokenizer.from_pretrained(out)
    config = json.loads((out / "generation_config.json").read_text())
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in config["eos_token_id"]
    assert json.loads((out / "config.json").read_text())["use_cache"] is True
    card = (out / "README.md").read_text()
    assert card.startswith("---\n") and "dequantised" not in card
    assert f"saved as   float32 in {out}" in capsys.readouterr().out


def test_sixteen_bits_pass_their_own_tolerance_and_are_stored(bases, tmp_path):
    adapter = save_adapter(tmp_path / "adapter", bases[False])
    content = merge(adapter, tmp_path / "out", "--save_dtype", "bfloat16")
    assert content["tolerance"] == merging.HALF
    assert content["difference_before_rounding"]["largest"] < 1e-4 < content["difference"]["largest"]
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").dtype == torch.bfloat16


def test_above_the_tolerance_nothing_is_written(bases, tmp_path):
    adapter = save_adapter(tmp_path / "adapter", bases[False])
    with pytest.raises(UserError, match=r"saved in bfloat16.*the tolerance is 0\.0001.*Nothing was written"):
        merge(adapter, tmp_path / "out", "--save_dtype", "bfloat16", "--tolerance", "1e-4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]


def test_a_merge_that_loses_the_adapter_is_refused(bases, tmp_path, monkeypatch):
    adapter = save_adapter(tmp_path / "adapter", bases[False])
    monkeypatch.setattr(merging, "merge", lambda model: model.unload())
    with pytest.raises(UserError, match="the merged weights, not yet rounded"):
        merge(adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_that_hold_something_else_are_refused(bases, tmp_path, monkeypatch):
    adapter = save_adapter(tmp_path / "adapter", bases[False])

    def spoil(model, dtype):
        with torch.no_grad():
            model.lm_head.weight[17] += 3.0

    monkeypatch.setattr(merging, "cast_for_saving", spoil)
    with pytest.raises(UserError, match="the merged model, saved in float32"):
        merge(adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [{"load_in_4bit": True}, {"load_in_8bit": True}], ids=["nf4", "int8"])
def test_a_quantised_base_is_dequantised(options, bases, tmp_path):
    """The run says that its base was quantised, and the merged weights are those of that base."""
    recipe = {"output_dir": "runs/x", **options}
    adapter = save_adapter(tmp_path / "adapter", bases[False], recipe=recipe)
    content = merge(adapter, tmp_path / "out")
    assert content["base_dequantized"] and content["base_quantization"] == (
        "nf4" if "load_in_4bit" in options else "int8"
    )
    assert content["difference_before_rounding"]["largest"] < 1e-4
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert "quantization_config" not in config
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.float32}
    plain = AutoModelForCausalLM.from_pretrained(bases[False])
    from_original = logits(PeftModel.from_pretrained(plain, adapter))
    # Not the original base: the rounding of the quantisation is in the weights.
    assert (logits(merged) - from_original).abs().max() > 0.01 * from_original.std()
    assert "dequantised" in (tmp_path / "out" / "README.md").read_text()
    if "load_in_4bit" in options:
        # bitsandbytes' own forward pass of the quantised base, weights of the file against weights in 4 bits.
        assert content["difference"]["largest"] < 1e-3
        given = merge(adapter, tmp_path / "plain", "--load_in_4bit", "false")
        assert given["base_quantization"] is None
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "plain")
        assert (logits(merged) - from_original).abs().max() < 1e-4 * from_original.std()


def test_a_base_that_moved_is_named(bases, tmp_path):
    adapter = save_adapter(tmp_path / "adapter", bases[False])
    config = tmp_path / "adapter" / "adapter_config.json"
    settings = json.loads(config.read_text())
    config.write_text(json.dumps({**settings, "base_model_name_or_path": "/gone/base"}))
    with pytest.raises(UserError, match=r"'/gone/base' does not exist.*--base_model"):
        merge(adapter, tmp_path / "out")
    assert merge(adapter, tmp_path / "out", "--base_model", bases[False])["base_model"] == bases[False]


def test_another_base_is_refused(bases, tmp_path):
    adapter = save_adapter(tmp_path / "adapter", bases[False])
    other = save_tiny_checkpoint(tmp_path / "other", hidden_size=48)
    with pytest.raises(UserError, match="does not fit the base model"):
        merge(adapter, tmp_path / "out", "--base_model", other)
    shallow = save_tiny_checkpoint(tmp_path / "shallow", hidden_size=64, num_hidden_layers=1)
    with pytest.raises(UserError, match=r"no place for 14 of its weights, such as .*layers\.1\."):
        merge(adapter, tmp_path / "out", "--base_model", shallow)


def test_an_adapter_with_missing_weights_is_refused(bases, tmp_path):
    adapter = save_adapter(tmp_path / "adapter", bases[False])
    weights = load_file(f"{adapter}/adapter_model.safetensors")
    weights.pop(next(iter(weights)))
    save_file(weights, f"{adapter}/adapter_model.safetensors")
    with pytest.raises(UserError, match=r"does not fit the base model.*missing adapter keys"):
        merge(adapter, tmp_path / "out")


def test_new_tokens_whose_head_was_not_saved_are_refused(bases, tmp_path):
    """PEFT saves a resized head only where the embedding is not adapted itself."""
    adapter = save_adapter(
        tmp_path / "adapter", bases[False], new_tokens=3, target_modules=["q_proj", "embed_tokens"]
    )
    with pytest.raises(UserError, match=r"resized to 323 tokens.*only model\.embed_tokens was saved"):
        merge(adapter, tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task_type": "SEQ_CLS"}, "task_type is SEQ_CLS; expected CAUSAL_LM"),
        ({"base_model_name_or_path": None}, "names no base model"),
    ],
)
def test_adapters_of_another_kind(change, message, bases, tmp_path):
    adapter = save_adapter(tmp_path / "adapter", bases[False])
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **change}))
    with pytest.raises(UserError, match=message):
        merge(adapter, tmp_path / "out")


def test_prompt_tuning_has_nothing_to_merge(bases, tmp_path):
    from peft import PromptTuningConfig, get_peft_model

    model = AutoModelForCausalLM.from_pretrained(bases[False])
    get_peft_model(model, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)).save_pretrained(
        tmp_path / "adapter"
    )
    with pytest.raises(UserError, match="PROMPT_TUNING cannot be merged"):
        merge(str(tmp_path / "adapter"), tmp_path / "out")


def test_tokens_without_weights_are_refused(bases, tmp_path):
    adapter = save_adapter(tmp_path / "adapter", bases[False])
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(adapter)
    with pytest.raises(UserError, match="the weights of the new tokens were not saved"):
        merge(adapter, tmp_path / "out")


def test_wrong_arguments(bases, tmp_path, capsys):
    adapter = save_adapter(tmp_path / "adapter", bases[False])
    with pytest.raises(UserError, match=r"'.*adapter' is not empty \(README.md, adapter_config.json"):
        merge(adapter, adapter)
    with pytest.raises(UserError, match="is a whole model; expected an adapter"):
        merge(bases[False], tmp_path / "out")
    with pytest.raises(UserError, match="'nowhere' is no folder here; expected an adapter"):
        merge("nowhere", tmp_path / "out")
    with pytest.raises(UserError, match="save_dtype says how"):
        merge(adapter, tmp_path / "out", "--dtype", "bfloat16")
    with pytest.raises(UserError, match="--output_dir is missing"):
        main(["--model_name_or_path", adapter])
    (tmp_path / "adapter" / "adapter_model.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        merge(adapter, tmp_path / "out")
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match=r"adapter_model\.safetensors is missing"):
        merge(adapter, tmp_path / "out")
    assert hf_align(["merge", "--help"]) == 0
    assert "usage: hf-align merge --model_name_or_path RUN_OR_ADAPTER" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]
