"""Whether models order compared answers as the data do: by hand, and equal to scores one at a time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tiny_checkpoint import save_tiny_checkpoint, tiny_tokenizer
from helpers.tiny_evaluation import save_tiny_reward_model
from helpers.tiny_rewards import write_pairs, write_rankings
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from hf_align.config import DatasetConfig
from hf_align.errors import UserError
from hf_align.evaluation.judging.preference_scores import (
    likelihood_preferences,
    read_comparisons,
    reward_preferences,
)
from hf_align.evaluation.scoring import make_scorer
from hf_align.saved_models.reward_scoring import load_reward_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    save_tiny_reward_model(folder / "reward")
    save_tiny_checkpoint(folder / "model", initializer_range=0.3)
    write_pairs(folder / "pairs.jsonl", 6)
    write_rankings(folder / "rankings.jsonl", 4)
    return folder


@pytest.mark.parametrize("name", ["pairs", "rankings"])
def test_rewards_are_those_of_transformers(folder, name):
    reward = load_reward_model(folder / "reward", dtype="float32", use_cpu=True)
    rows = read_comparisons(DatasetConfig(str(folder / f"{name}.jsonl")), reward.tokenizer, reward.model)
    plain = AutoModelForSequenceClassification.from_pretrained(folder / "reward", dtype=torch.float32).eval()
    right, margins, every = [], [], []
    for row in rows:
        ids = [
            torch.from_numpy(row.sequence(k).input_ids.astype(np.int64))[None]
            for k in range(len(row.branches))
        ]
        with torch.no_grad():
            scores = [float(plain(input_ids=each).logits) for each in ids]
        every += scores
        differences = [scores[i] - scores[j] for i, j in row.pairs()]
        right.append(np.mean([d > 0 for d in differences]))
        margins.append(np.mean(differences))
    for max_tokens in (1, 4096):
        metrics, items = reward_preferences(reward, rows, max_tokens=max_tokens)
        assert metrics["accuracy"] == pytest.approx(np.mean(right))
        assert metrics["mean_margin"] == pytest.approx(np.mean(margins), abs=1e-5)
        assert metrics["mean_reward"] == pytest.approx(np.mean(every), abs=1e-5)
        np.testing.assert_allclose(items, [[share, 1.0] for share in right])


def test_likelihoods_are_those_of_transformers(folder):
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).eval()
    tokenizer = tiny_tokenizer()
    rows = read_comparisons(DatasetConfig(str(folder / "pairs.jsonl")), tokenizer, model)
    by_token, by_sum = [], []
    for row in rows:
        means, sums = [], []
        for k in range(2):
            sequence = row.sequence(k)
            with torch.no_grad():
                ids = torch.from_numpy(sequence.input_ids.astype(np.int64))[None]
                logps = model(input_ids=ids).logits[0].log_softmax(-1)
            places = np.flatnonzero(sequence.target_mask)
            total = sum(float(logps[i - 1, sequence.input_ids[i]]) for i in places)
            sums.append(total)
            means.append(total / len(places))
        by_token.append(means[0] - means[1])
        by_sum.append(sums[0] - sums[1])
    scorer = make_scorer(model, tokenizer, precision="fp32")
    metrics, items = likelihood_preferences(scorer, rows)
    assert metrics["accuracy"] == pytest.approx(np.mean(np.array(by_token) > 0))
    assert metrics["accuracy_by_sums"] == pytest.approx(np.mean(np.array(by_sum) > 0))
    assert metrics["mean_margin"] == pytest.approx(np.mean(by_token), abs=1e-5)
    assert (metrics["pairs"], metrics["prompts"], items.shape) == (6, 6, (6, 2))


def test_long_rows_and_bad_rows_are_named_without_keys_that_the_recipe_lacks(folder, tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": "a " * 900, "chosen": "b", "rejected": "c"}] + [
        {"prompt": "a ", "chosen": "b", "rejected": "c"}
    ] * 3
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    with pytest.raises(UserError, match=r"1 of 4 rows are longer than the model's context of \d+") as error:
        read_comparisons(DatasetConfig(str(path)), tiny_tokenizer(), model)
    assert "overlong" not in str(error.value) and "max_length" not in str(error.value)
    rows[0]["chosen"] = ""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match="1 of 4 rows are malformed") as error:
        read_comparisons(DatasetConfig(str(path)), tiny_tokenizer(), model)
    assert str(error.value).endswith("Fix or remove them.")


def test_nothing_compared(folder, tmp_path):
    path = tmp_path / "ties.jsonl"
    path.write_text(json.dumps({"prompt": "x", "answers": ["a", "b"], "scores": [1, 1]}) + "\n")
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    with pytest.raises(UserError, match=r"ties\.jsonl: (there is no row|1 of 1 rows)"):
        read_comparisons(DatasetConfig(str(path)), tiny_tokenizer(), model)
