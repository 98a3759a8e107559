"""The recipe of KTO: defaults, where the reference comes from, and what is refused."""

from __future__ import annotations

import pytest

from hf_align.errors import UserError
from hf_align.kto.recipe import parse_kto

GIVEN = ["--model_name_or_path", "m", "--datasets", "a.jsonl"]
LORA = ["--adapter", "lora"]


def test_defaults() -> None:
    config = parse_kto(GIVEN)
    preference = config.preference
    assert (preference.loss_type, preference.beta) == ("kto", 0.1)
    assert (preference.desirable_weight, preference.undesirable_weight) == (1.0, 1.0)
    assert config.training.learning_rate == 1e-6 and config.training.output_dir == "runs/kto"


@pytest.mark.parametrize(
    ("options", "reference"),
    [
        ([], "precomputed"),
        (LORA, "adapter off"),
        ([*LORA, "--precompute_ref_log_probs", "true"], "precomputed"),
        ([*LORA, "--ref_model_name_or_path", "r"], "precomputed"),
    ],
)
def test_where_the_reference_comes_from(options: list[str], reference: str) -> None:
    assert parse_kto([*GIVEN, *options]).reference == reference


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--loss_type", "dpo"], "kto.*apo_zero_unpaired"),
        (["--desirable_weight", "0", "--undesirable_weight", "0"], "nothing would be learned"),
        (["--streaming", "true", "--max_steps", "3"], "streaming"),
        (["--precompute_ref_log_probs", "false"], "run beforehand"),
        ([*LORA, "--precompute_ref_log_probs", "false", "--ref_model_name_or_path", "r"], "run beforehand"),
        ([*LORA, "--init_lora_weights", "pissa"], "precompute_ref_log_probs: true"),
        (["--neftune_noise_alpha", "5"], "neftune_noise_alpha"),
        (["--train_on", "all"], "train_on"),
        (["--adapter", "ladder", "--ladder_cache", "true"], "ladder_cache"),
    ],
)
def test_what_does_not_go_together_is_refused(options: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse_kto([*GIVEN, *options])
