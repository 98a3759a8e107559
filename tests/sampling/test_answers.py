"""Every reader of a sampled answer sees the same text, and random numbers stay those of earlier runs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from helpers.tiny_checkpoint import save_tiny_checkpoint, tiny_tokenizer
from transformers import AutoModelForCausalLM

from hf_align.best_of_n import sampling as best_of_n
from hf_align.best_of_n.sampling import Sampler
from hf_align.config import SamplesConfig
from hf_align.data.chat.prompts import Prompt
from hf_align.data.chat.rendering import prompt_ids
from hf_align.evaluation.answering import Asked, answer_task
from hf_align.evaluation.lm_eval import generation
from hf_align.evaluation.lm_eval.generation import Generation, written_texts
from hf_align.evaluation.recipe_entries import GenerationTask
from hf_align.rewards.models import Scored
from hf_align.rl import rollout
from hf_align.rl.models import PpoModels
from hf_align.rl.recipe import PpoOptionsConfig
from hf_align.rl.rollout import RolloutTools, sample_episodes, score_episodes
from hf_align.rl.value_head import PolicyWithValue, ValueHead
from hf_align.sampling import answers
from hf_align.sampling.answers import Answer, answer_of, draws_of, sample_answers
from hf_align.sampling.continuations import sample_continuations
from hf_align.sampling.options import Sampling
from hf_align.sampling.streaming import stream_answer
from hf_align.training.samples import generate_answers
from hf_align.types import Example, Message

TOKENIZER = tiny_tokenizer()
GREEDY = Sampling(max_new_tokens=8)
EXAMPLE = Example("data:1", messages=(Message("user", "Hi"), Message("assistant", "re")))
IDS = tuple(prompt_ids(TOKENIZER, EXAMPLE))
PROMPT = Prompt(IDS, "Hi", "re", EXAMPLE, {})


class Seen:
    """A reward that notes the answers that it is given."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def score(self, prompts: Any, completions: list[str], rows: Any, examples: Any) -> Scored:
        self.texts += completions
        return Scored(np.zeros(len(completions)), {"seen": np.zeros(len(completions))})


def tools(model: Any, stop_ids: list[int], reward: Any, max_new_tokens: int = 8) -> RolloutTools:
    found = PpoModels(PolicyWithValue(model, ValueHead(32, "normal")).eval(), None, False, False, stop_ids, 0)
    # Of the likeliest token alone: a policy is never sampled at temperature 0.
    options = PpoOptionsConfig(max_new_tokens=max_new_tokens, top_k=1)
    return RolloutTools(found, reward, TOKENIZER, options, Accelerator(cpu=True), 4096)


def rewarded_in_ppo(model: Any, stop_ids: list[int]) -> str:
    seen, asked = Seen(), [(0, PROMPT)]
    using = tools(model, stop_ids, seen)
    score_episodes(using, asked, sample_episodes(using, asked, samples=1, seed=(0,)))
    return seen.texts[0]


def rewarded_in_best_of_n(model: Any, stop_ids: list[int]) -> str:
    seen: Any = Seen()
    (found,) = Sampler(model, TOKENIZER, stop_ids, seen, GREEDY, 1, 0, 4).answer([PROMPT])
    assert found.answers == seen.texts, "what is written down is what was rewarded"
    return found.answers[0]


def evaluated(model: Any, stop_ids: list[int]) -> str:
    asked = [Asked(PROMPT, IDS, ("re",), {})]
    (reply,) = answer_task(model, TOKENIZER, GenerationTask("t"), asked, GREEDY, seed=0, max_rows=4)
    return reply.sample.text


def of_lm_eval(model: Any, stop_ids: list[int]) -> str:
    scorer: Any = SimpleNamespace(model=model, tokenizer=TOKENIZER)
    wanted = Generation(GREEDY, ())
    return written_texts(scorer, [IDS], wanted, seed=0, max_rows=4, progress=lambda count: None)[0]


def shown_as_sample(model: Any, stop_ids: list[int], **options: Any) -> str:
    config = SamplesConfig(sample_max_new_tokens=8)
    return generate_answers(model, TOKENIZER, [EXAMPLE], config, stop_ids=stop_ids, seed=0, **options)[0].text


def shown_of_a_sharded_model(model: Any, stop_ids: list[int]) -> str:
    return shown_as_sample(model, stop_ids, sharded=True)


def streamed(model: Any, stop_ids: list[int]) -> str:
    shown: list[str] = []
    answer = stream_answer(model, TOKENIZER, IDS, GREEDY, stop_ids=stop_ids, on_text=shown.append)
    assert "".join(shown) == answer.text
    return answer.text


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("model")
    save_tiny_checkpoint(folder, initializer_range=0.3)
    return AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.mark.parametrize(
    "use",
    [
        rewarded_in_ppo,
        rewarded_in_best_of_n,
        evaluated,
        of_lm_eval,
        shown_as_sample,
        shown_of_a_sharded_model,
        streamed,
    ],
)
@pytest.mark.parametrize("place", [0, 3])
def test_a_stop_token_that_is_an_ordinary_one_is_no_part_of_an_answer(model, use, place, monkeypatch) -> None:
    (whole,) = sample_continuations(model, [IDS], GREEDY, stop_ids=[], pad_token_id=0)
    ids = whole.tokens.tolist()
    stop = ids[place]
    assert stop not in TOKENIZER.all_special_ids and stop not in ids[:place]
    monkeypatch.setattr(model.generation_config, "eos_token_id", [stop])
    assert use(model, [stop]) == TOKENIZER.decode(ids[:place])


def test_an_answer_is_what_stands_before_the_first_stop_token() -> None:
    special = TOKENIZER.eos_token_id
    first, second, end = TOKENIZER("xyz", add_special_tokens=False)["input_ids"]
    text = TOKENIZER.decode([first, second])

    def read(*ids: int) -> Answer:
        return answer_of(TOKENIZER, np.array(ids, np.int32), [end, special])

    assert read(first, second, end) == read(first, second, special) == Answer(text, True, 3)
    assert read(first, second, end, first, end) == Answer(text, True, 3), "it is cut once, at the first"
    assert read(first, second) == Answer(text, False, 2)
    assert read(end) == Answer("", True, 1)
    assert answer_of(TOKENIZER, [first, special, second], [end]) == Answer(text, False, 3)


def test_answers_come_by_prompt(model) -> None:
    prompts = [[5, 6, 7], [8], [9, 10]]
    options: dict[str, Any] = {"stop_ids": [], "samples": 2, "draws": draws_of([[1], [2], [3]], 2, 8)}
    sampling = Sampling(8, 1.0)
    found = sample_answers(model, TOKENIZER, prompts, sampling, max_rows=2, **options)
    expected = sample_continuations(model, prompts, sampling, pad_token_id=0, **options)
    texts = [TOKENIZER.decode(one.tokens.tolist(), skip_special_tokens=True) for one in expected]
    assert [[one.text for one in of_prompt] for of_prompt in found] == [texts[:2], texts[2:4], texts[4:]]


# What the four uses drew before they shared a function.
PPO = [
    [0.42757195756795263, 0.5518283852204252, 0.23273238878125757],
    [0.38532698736678916, 0.7766475711332623, 0.2363254489564014],
]
BEST_OF_N = [
    [0.5205028282324711, 0.1658173911165779, 0.014189703552158983],
    [0.8754784497351205, 0.648227162848426, 0.37739875438123205],
]
EVALUATION = [
    [0.9291550795779093, 0.7821738315812667, 0.9371029585182963],
    [0.5330190762100366, 0.48104682539883437, 0.4416827114226073],
]
OTHER_PROMPT = [0.3333076322720756, 0.13727011525192423, 0.30034497514916525]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The draws of every call of the sampler."""
    calls: list[Any] = []

    def noted(*given: Any, **options: Any) -> Any:
        calls.append(options["draws"].tolist())
        return sample_continuations(*given, **options)

    for module in (answers, generation, rollout):
        monkeypatch.setattr(module, "sample_continuations", noted)
    return calls


def test_ppo_draws_what_it_drew(model, drawn) -> None:
    using = tools(model, [2], Seen(), max_new_tokens=3)
    sample_episodes(using, [(4, PROMPT)], samples=2, seed=(7, 0, 3))
    assert drawn == [[PPO]]


def test_best_of_n_draws_what_it_drew(model, drawn, monkeypatch) -> None:
    monkeypatch.setattr(best_of_n, "prompt_key", lambda prompt: "0123abcd")
    seen: Any = Seen()
    Sampler(model, TOKENIZER, [2], seen, Sampling(3, 1.0), 2, 5, 4).answer([PROMPT])
    assert drawn == [[BEST_OF_N]]


def test_evaluation_draws_what_it_drew(model, drawn) -> None:
    asked = [Asked(PROMPT, (5, 6, 7), ("re",), {})]
    task = GenerationTask("t", num_samples=2)
    answer_task(model, TOKENIZER, task, asked, Sampling(3, 1.0), seed=3, max_rows=4)
    assert drawn == [[EVALUATION]]


def test_a_prompt_that_lm_eval_asks_twice_is_drawn_for_anew(model, drawn) -> None:
    scorer: Any = SimpleNamespace(model=model, tokenizer=TOKENIZER)
    prompts, wanted = [[5, 6, 7], [8], [5, 6, 7]], Generation(Sampling(3, 1.0), ())
    written_texts(scorer, prompts, wanted, seed=3, max_rows=4, progress=lambda count: None)
    assert drawn == [[[EVALUATION[0]], [OTHER_PROMPT], [EVALUATION[1]]]]


def test_draws_follow_from_the_seed_of_their_prompt() -> None:
    one = draws_of(["a" * 15, [1, 2]], 3, 5)
    assert one.shape == (2, 3, 5) and one.dtype == torch.float64
    assert torch.equal(draws_of([[1, 2], "a" * 15], 3, 5), one.flip(0))
    assert not torch.equal(draws_of([[1, 3]], 3, 5), one[1:])
