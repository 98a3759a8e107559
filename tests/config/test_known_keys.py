"""Advice for a key that no recipe has: other trainers' names lead to keys that there are."""

from __future__ import annotations

import dataclasses

import pytest
import transformers

from hf_align.config.known_keys import _SAID, _WRITE, unknown_key
from hf_align.config.synonyms import SYNONYMS
from hf_align.stages import PIPELINE_COMMANDS, recipe_class

COMMANDS = {name: recipe_class(name).keys() for name in PIPELINE_COMMANDS}
KEYS = {key for keys in COMMANDS.values() for key in keys}


@pytest.mark.parametrize("other", sorted(_WRITE))
def test_what_is_advised_exists(other: str) -> None:
    known = {name for names in COMMANDS.values() for name in names}
    assert [name for name in _WRITE[other] if name in known], other


@pytest.mark.parametrize("other", sorted({*_SAID, *_WRITE}))
def test_what_is_advised_against_is_no_key_of_fine_tuning(other: str) -> None:
    assert other not in COMMANDS["sft"] and other not in SYNONYMS


def test_the_advice_is_that_of_the_stage() -> None:
    assert unknown_key("beta", COMMANDS["ppo"]) == " Here: write kl_coef."
    assert unknown_key("learning_rat", COMMANDS["sft"]) == " Did you mean 'learning_rate'?"
    assert "belongs into an entry of datasets: [{path: …, weight: …}]" in unknown_key(
        "weight", COMMANDS["sft"]
    )
    assert unknown_key("simpo_gamma", COMMANDS["sft"]) == " It is a key of: dpo."
    assert unknown_key("reward_funcs", COMMANDS["sft"]).startswith(
        " It is a key, called reward_functions, of: "
    )


@pytest.mark.parametrize(
    ("command", "key"), [("sft", "colour"), ("ppo", "adam"), ("sft", "max_sample"), ("dpo", "base")]
)
def test_no_guess_is_better_than_a_wrong_one(command: str, key: str) -> None:
    assert unknown_key(key, COMMANDS[command]) == ""


@pytest.mark.parametrize(
    ("config", "command"), [("SFTConfig", "sft"), ("DPOConfig", "dpo"), ("RewardConfig", "reward")]
)
def test_every_name_of_trl_is_a_key_a_synonym_or_explained(config: str, command: str) -> None:
    trl = pytest.importorskip("trl", minversion="1.16")
    common = {field.name for field in dataclasses.fields(transformers.TrainingArguments)}
    own = {field.name for field in dataclasses.fields(getattr(trl, config))} - common
    explained = {*COMMANDS[command], *SYNONYMS, *_WRITE, *_SAID, *_WITHOUT_ANYTHING_ALIKE}
    assert own <= explained, sorted(own - explained)


_WITHOUT_ANYTHING_ALIKE = {
    *("ld_alpha", "f_divergence_type", "f_alpha_divergence_coef", "use_weighting", "discopop_tau"),
    *("sync_ref_model", "ref_model_mixup_alpha", "ref_model_sync_steps"),
}
"""What TRL computes and is not computed here."""
