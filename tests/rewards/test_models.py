"""Rewards: weighted sums, names, and reward models that read answers as they read their own training rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.scored_answers import OTHER, PLAIN, TALK, _load, _reward_model, _score
from helpers.tiny_checkpoint import save_tiny_checkpoint, tiny_tokenizer
from helpers.tiny_models import redraw
from transformers import AutoConfig, AutoModelForSequenceClassification

from hf_align.errors import UserError
from hf_align.rewards.models import load_rewards, part_names
from hf_align.rewards.recipe import RewardsConfig
from hf_align.saved_models.reward_scoring import write_reference
from hf_align.types import Message


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory) -> str:
    return _reward_model(tmp_path_factory.mktemp("reward"))


def test_order_and_budget_change_nothing(reward_model):
    examples = [TALK, OTHER, TALK, PLAIN, OTHER, TALK]
    answers = ["one", "two three", "one more word", "x", "", "one"]
    config = RewardsConfig(reward_model=reward_model)
    together = _score(load_rewards(config, use_cpu=True, precision="fp32"), examples, answers).total
    narrow = load_rewards(config, use_cpu=True, precision="fp32", max_tokens=8)
    np.testing.assert_allclose(_score(narrow, examples, answers).total, together, atol=1e-5)
    alone = [_score(narrow, [e], [a]).total[0] for e, a in zip(examples, answers, strict=True)]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert together[0] == pytest.approx(together[5], abs=1e-6)


def test_a_weighted_sum(reward_model, tmp_path):
    (tmp_path / "mine.py").write_text("def length(p, c, r): return [len(x) for x in c]\n", encoding="utf-8")
    rewards = _load(
        reward_model=reward_model,
        reward_functions=f"{tmp_path}/mine.py:length",
        reward_weights=[2.0, -0.5],
    )
    scored = _score(rewards, [TALK, TALK], ["ab", "abcd"])
    name = Path(reward_model).name
    assert list(scored.parts) == rewards.names == [name, "length"]
    assert scored.parts["length"].tolist() == [2.0, 4.0]
    np.testing.assert_allclose(scored.total, 2 * scored.parts[name] - [1.0, 2.0])
    means = scored.means()
    assert means["reward/length"] == 3.0
    assert means["reward/total"] == pytest.approx(scored.total.mean())


def test_scores_centred_on_the_stored_mean(tmp_path):
    path = _reward_model(tmp_path / "model")
    with pytest.raises(UserError, match="no mean score is stored with the reward model"):
        _load(reward_model=path, center_reward_models=True)
    raw = _score(_load(reward_model=path), [TALK], ["Yes."]).total
    write_reference(path, {"mean": 1.25, "std": 2.0})
    centred = _score(_load(reward_model=path, center_reward_models=True), [TALK], ["Yes."]).total
    np.testing.assert_allclose(centred, raw - 1.25, atol=1e-6)


@pytest.mark.parametrize(
    ("models", "functions", "names"),
    [
        (["runs/a"], ["f.py:g"], ["a", "g"]),
        (["runs/a/checkpoint-2", "runs/b/checkpoint-2"], [], ["runs.a.checkpoint-2", "runs.b.checkpoint-2"]),
        ([], ["one.py:score", "two.py:score"], ["one.score", "two.score"]),
        ([], ["x/one.py:score", "y/one.py:score"], ["one.score", "one.score.2"]),
        ([], ["f.py:total"], ["f.total"]),
        (["runs/score"], ["f.py:score"], ["runs.score", "f.score"]),
    ],
)
def test_names_are_short_and_unlike(models, functions, names):
    assert part_names(RewardsConfig(reward_model=models, reward_functions=functions)) == names


def test_identity_follows_content(reward_model, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "def f(p, c, r): return [0] * len(c)\ndef g(p, c, r): return f(p, c, r)\n", encoding="utf-8"
    )
    options = {"reward_model": reward_model, "reward_functions": f"{file}:f"}
    first = _load(**options).identity()
    assert _load(**options).identity() == first
    file.write_text("def f(p, c, r): return [1] * len(c)\n", encoding="utf-8")
    second = _load(**options).identity()
    changed = [name for name in first if first[name] != second[name]]
    assert changed == ["f"]


def test_an_unknown_reward_model(tmp_path):
    with pytest.raises(UserError, match=r"^reward_model: .*no_such_run"):
        _load(reward_model=str(tmp_path / "no_such_run"))


def test_a_language_model_is_no_reward_model(tmp_path):
    path = save_tiny_checkpoint(tmp_path / "lm")
    with pytest.raises(UserError, match=r"^reward_model: .*no reward model: it has no head"):
        _load(reward_model=path)


def test_functions_are_looked_for_before_models_are_loaded(tmp_path):
    with pytest.raises(UserError, match=r"reward_functions: .*there is no file"):
        _load(reward_model=str(tmp_path / "none"), reward_functions=f"{tmp_path}/none.py:f")


def test_scores_that_are_no_numbers(tmp_path):
    path = _reward_model(tmp_path / "model")
    model = AutoModelForSequenceClassification.from_pretrained(path, dtype=torch.float32)
    with torch.no_grad():
        model.score.weight.fill_(3e38)
    model.save_pretrained(path)
    with pytest.raises(UserError, match=r"gives (nan|-?inf) for the answer to t\.jsonl:1"):
        _score(_load(reward_model=path), [TALK], ["Yes."])


def test_an_encoder_reads_conversations_and_answers(tmp_path):
    folder = tmp_path / "encoder"
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "bert",
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        num_labels=1,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32).eval()
    redraw(model, 0.2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    scored = _score(_load(reward_model=str(folder)), [TALK, OTHER], ["Yes.", "No, never."])
    for found, (example, answer) in zip(scored.total, [(TALK, "Yes."), (OTHER, "No, never.")], strict=True):
        turns = example.messages[:2] if example is TALK else example.messages
        chat = [{"role": m.role, "content": m.content} for m in (*turns, Message("assistant", answer))]
        ids = tokenizer(tokenizer.apply_chat_template(chat, tokenize=False), return_tensors="pt")["input_ids"]
        with torch.no_grad():
            assert found == pytest.approx(float(model(input_ids=ids).logits[0, 0]), abs=1e-5)


def test_arguments_of_different_lengths(reward_model):
    with pytest.raises(ValueError, match="lengths"):
        _load(reward_model=reward_model).score([""], ["a", "b"], [{}], [TALK])
