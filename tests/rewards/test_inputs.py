"""Answers as a reward model reads them: in its own template, as it read its training rows."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.scored_answers import (
    OTHER,
    PLAIN,
    PROMPT,
    TALK,
    _load,
    _plain_transformers,
    _reward_model,
    _score,
)
from helpers.tiny_checkpoint import CHATML, tiny_tokenizer
from transformers import AutoTokenizer

from hf_align.data.chat.rendering import make_encoder
from hf_align.data.comparisons.encoding import ComparisonEncoder
from hf_align.errors import UserError
from hf_align.rewards.models import load_rewards
from hf_align.rewards.recipe import RewardsConfig
from hf_align.saved_models.reward_scoring import load_reward_model, score_rows
from hf_align.types import Comparison, Message


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory) -> str:
    return _reward_model(tmp_path_factory.mktemp("reward"))


def test_a_reward_model_reads_prompt_and_answer_in_its_template(reward_model):
    scored = _score(_load(reward_model=reward_model), [TALK, OTHER], ["Twelve.", ""])
    tokenizer = AutoTokenizer.from_pretrained(reward_model)
    turns = [
        [*PROMPT, Message("assistant", "Twelve.")],
        [*OTHER.messages, Message("assistant", "")],
    ]
    for found, messages in zip(scored.total, turns, strict=True):
        chat = [{"role": m.role, "content": m.content} for m in messages]
        text = tokenizer.apply_chat_template(chat, tokenize=False)
        assert found == pytest.approx(_plain_transformers(reward_model, text), abs=1e-5)


def test_scores_are_those_of_the_rows_that_it_was_trained_on(reward_model):
    answers = ("12 lamps to Oslo.", "No.")
    scored = _score(_load(reward_model=reward_model), [TALK, TALK], list(answers))
    model = load_reward_model(reward_model, use_cpu=True, dtype="float32")
    encoder = ComparisonEncoder(make_encoder(model.tokenizer, train_on="last"))
    (tree,) = encoder.encode([Comparison("x", PROMPT, answers, (1.0, 0.0))])
    np.testing.assert_allclose(scored.total, score_rows(model, [tree]), atol=1e-5)


def test_plain_prompts_are_continued_without_a_template(reward_model):
    scored = _score(_load(reward_model=reward_model), [PLAIN], [" a lamp"])
    expected = _plain_transformers(reward_model, "Once upon a lamp<|im_end|>")
    assert scored.total[0] == pytest.approx(expected, abs=1e-5)


def test_an_answer_alone(reward_model):
    rewards = _load(reward_model=reward_model, reward_model_input="answer")
    scored = _score(rewards, [TALK, PLAIN], ["Twelve.", "Twelve."])
    expected = _plain_transformers(reward_model, "Twelve.")
    np.testing.assert_allclose(scored.total, [expected, expected], atol=1e-5)
    with pytest.raises(UserError, match=r"no token to read for the answer to t\.jsonl:1"):
        _score(rewards, [TALK], [""])


def test_a_model_without_a_template(tmp_path):
    path = _reward_model(tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="has no chat template to read conversations in"):
        _score(_load(reward_model=path), [TALK], ["Yes."])
    # The same vocabulary: the template of the model that answers fits.
    config = RewardsConfig(reward_model=path)
    borrowed = load_rewards(config, tiny_tokenizer(), use_cpu=True, precision="fp32")
    text = "".join(
        f"<|im_start|>{m.role}\n{m.content}<|im_end|>\n" for m in (*PROMPT, Message("assistant", "Yes."))
    )
    assert CHATML.count("im_end") == 1
    expected = _plain_transformers(path, text)
    assert _score(borrowed, [TALK], ["Yes."]).total[0] == pytest.approx(expected, abs=1e-5)


def test_an_answer_longer_than_the_model_reads(tmp_path):
    path = _reward_model(tmp_path / "model", max_position_embeddings=40)
    with pytest.raises(UserError, match=r"reads at most 40 tokens; the answer to t\.jsonl:1 has"):
        _score(_load(reward_model=path), [TALK], ["word " * 40])
