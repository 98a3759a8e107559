"""Names of other trainers that mean the same are read; lists stand behind an option as they are typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_align.config.synonyms import SYNONYMS
from hf_align.errors import UserError
from hf_align.preference.recipe import parse_dpo
from hf_align.sft.recipe import parse_sft
from hf_align.stages import PIPELINE_COMMANDS, recipe_class

KEYS = {key for command in PIPELINE_COMMANDS for key in recipe_class(command).keys()}  # noqa: SIM118


@pytest.mark.parametrize("name", sorted(SYNONYMS))
def test_a_synonym_leads_to_a_key(name: str) -> None:
    assert SYNONYMS[name].key in KEYS
    assert SYNONYMS[name].key not in SYNONYMS


def recipe(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "r.yaml"
    path.write_text(text, encoding="utf-8")
    return ["--config", str(path)]


def test_a_recipe_in_the_words_of_others(tmp_path: Path) -> None:
    config = parse_dpo(
        recipe(
            tmp_path,
            "base_model: m\ndataset_name: a.jsonl\nloss_type: sigmoid\nbf16: true\nmax_seq_length: 64\n"
            "use_peft: true\nlora_rank: 4\ntorch_dtype: bfloat16\nfp16: false\n",
        )
    )
    flat = config.to_flat()
    assert (flat["model_name_or_path"], flat["loss"], flat["precision"]) == ("m", ["dpo"], "bf16")
    assert (flat["max_length"], flat["adapter"], flat["lora_r"]) == (64, "lora", 4)


def test_lists_behind_an_option() -> None:
    given = ["--model_name_or_path", "m", "--adapter", "lora"]
    config = parse_sft(
        [*given, "--datasets", "a.jsonl", "b.jsonl", "--lora_target_modules", "q_proj", "v_proj"]
    )
    assert [dataset.path for dataset in config.data.datasets] == ["a.jsonl", "b.jsonl"]
    assert config.adapter.lora_target_modules == ["q_proj", "v_proj"]
    with pytest.raises(UserError, match=r"'5': expected an option"):
        parse_sft([*given, "--datasets", "a.jsonl", "--max_length", "64", "5"])


def test_a_name_and_its_synonym_are_not_both_given(tmp_path: Path) -> None:
    text = "model_name_or_path: m\ndatasets: a.jsonl\nmax_length: 8\ncutoff_len: 9\n"
    with pytest.raises(UserError, match=r"r.yaml:4: cutoff_len: this is max_length, which is given as well"):
        parse_sft(recipe(tmp_path, text))


def test_all_unknown_keys_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        parse_sft(recipe(tmp_path, "model_name_or_path: m\ndatasets: a.jsonl\ncolour: 1\nbeta: 2\n"))
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == ["colour", "beta"]
    with pytest.raises(UserError, match=r"(?s)--colour: unknown option.*--shape: unknown option"):
        parse_sft(["--colour", "1", "--shape", "2"])
