"""Scores for sampled answers: reward models, Python functions of the user, or a weighted sum of both.

How scores are changed before they are learned from is in ``scaling``, how a user's function is loaded
and called in ``functions``, how a reward model reads an answer in ``inputs``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hf_align.config.model import Dtype
from hf_align.errors import UserError
from hf_align.modeling.weights_digest import model_digest
from hf_align.rewards.functions import call_function, load_function
from hf_align.rewards.inputs import AnswerReader
from hf_align.rewards.recipe import RewardsConfig, split_function
from hf_align.rewards.verifiable.table import is_verifier, verifier
from hf_align.saved_models.reward_scoring import RewardModel, load_reward_model, score_rows
from hf_align.types import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_align.modeling.precision import Precision

Scores = npt.NDArray[np.float64]
Reward = Callable[[Sequence[str], Sequence[str], Sequence[dict[str, Any]], Sequence[Example]], Scores]

_DTYPES: dict[str, Dtype] = {
    "fp32": "float32",
    "bf16": "bfloat16",
    "fp16": "float16",
}


@dataclass(frozen=True)
class Scored:
    """Scores of R answers. ``total`` (R,): the weighted sum. ``parts``: each reward (R,) by its name, without
    its weight."""

    total: Scores
    parts: dict[str, Scores]

    def means(self) -> dict[str, float]:
        """``reward/total`` and ``reward/NAME`` for each part, averaged over the answers."""
        named = {"total": self.total, **self.parts}
        return {f"reward/{name}": float(values.mean()) for name, values in named.items()}


@dataclass(frozen=True)
class Rewards:
    """Rewards that are ready to score. ``parts``: by name; ``weights``: the factor of each.

    ``digests``: by name what gives a digest of it, see :meth:`identity`.
    """

    parts: Mapping[str, Reward]
    weights: Mapping[str, float]
    digests: Mapping[str, Callable[[], str]]

    @property
    def names(self) -> list[str]:
        return list(self.parts)

    def identity(self) -> dict[str, str]:
        """What changes when a reward does, by its name: a digest of a function's file, or of a model's
        weights and template. What a function's file imports or reads is not in it.
        """
        return {name: digest() for name, digest in self.digests.items()}

    def score(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[dict[str, Any]],
        examples: Sequence[Example],
    ) -> Scored:
        """Scores of R answers.

        ``prompts`` (R): what the model was given, as text (``data.chat.render_prompt``). ``completions`` (R):
        what it wrote, without special tokens. ``rows`` (R): the rows of the data that the prompts come from,
        with all their columns (``data.chat.prompts.original_rows``). ``examples`` (R): the same in canonical
        form; a reward model reads the turns before the last answer from it. Answers to the same example are
        best given one after the other: their prompt is computed once.

        Raises UserError where a function of the user fails or returns something else than R finite numbers,
        where a reward model cannot read an answer, and ValueError for arguments of different lengths.
        """
        lengths = {len(prompts), len(completions), len(rows), len(examples)}
        if len(lengths) != 1:
            raise ValueError(f"prompts, completions, rows and examples have lengths {sorted(lengths)}")
        found = {name: part(prompts, completions, rows, examples) for name, part in self.parts.items()}
        total = np.zeros(len(prompts))
        for name, values in found.items():
            total = total + self.weights[name] * values
        return Scored(total, found)


def load_rewards(
    config: RewardsConfig,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    use_cpu: bool = False,
    precision: Precision | None = None,
    max_tokens: int = 4096,
) -> Rewards:
    """The rewards that ``config`` names.

    ``tokenizer``: of the model that answers; a reward model without a chat template of its own but with the
    same vocabulary reads conversations in its template. ``precision``: of reward models; None: as they were
    trained. ``max_tokens``: tokens that a reward model computes at once. Raises UserError for a function or
    model that cannot be loaded; functions come first, since that takes no time.
    """
    found: list[tuple[Reward, Callable[[], str]]] = []
    for name in config.reward_functions:
        loaded, digest = load_reward_function(name, config.reward_options.get(name, {}))
        function = _parts(name)[1]
        found.append((_function_reward(loaded, name), partial(str, f"{function} {digest}")))
    models: list[tuple[Reward, Callable[[], str]]] = []
    for path in config.reward_model:
        model = _load_model(path, use_cpu=use_cpu, precision=precision)
        reader = AnswerReader(model, path, answer_only=config.reward_model_input == "answer")
        reader.borrow_template(tokenizer)
        mean = _reference_mean(model, path) if config.center_reward_models else 0.0
        models.append((_model_reward(model, reader, mean, max_tokens), partial(_model_identity, model, path)))
    names = part_names(config)
    parts = [*models, *found]
    return Rewards(
        parts={name: reward for name, (reward, _) in zip(names, parts, strict=True)},
        weights=dict(zip(names, config.weights, strict=True)),
        digests={name: digest for name, (_, digest) in zip(names, parts, strict=True)},
    )


def load_reward_function(name: str, options: Mapping[str, Any]) -> tuple[Callable[..., Any], str]:
    """(the function that an entry of ``reward_functions`` names, a digest). Raises UserError where there is
    none, or for options that it does not take."""
    return verifier(name, options) if is_verifier(name) else load_function(*split_function(name))


def _parts(name: str) -> tuple[str, str]:
    """(file, function); a reward that comes with hf_align has a file of its own name."""
    return (name, name) if is_verifier(name) else split_function(name)


def part_names(config: RewardsConfig) -> list[str]:
    """A short name for each reward, models first: its last part, and more of it where that is not unique."""
    split = [_parts(name) for name in config.reward_functions]
    short = [
        *(Path(path).name or path for path in config.reward_model),
        *(function for _, function in split),
    ]
    whole = [
        *(path.strip("/").replace("/", ".") for path in config.reward_model),
        *(f"{Path(file).stem}.{function}" for file, function in split),
    ]
    names: list[str] = []
    for brief, full in zip(short, whole, strict=True):
        name = brief if short.count(brief) == 1 and brief != "total" else full
        number = 2
        while name in names or name == "total":
            name, number = f"{full}.{number}", number + 1
        names.append(name)
    return names


def _function_reward(function: Callable[..., Any], name: str) -> Reward:
    def score(
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[dict[str, Any]],
        examples: Sequence[Example],
    ) -> Scores:
        places = [example.source for example in examples]
        return call_function(function, name, prompts, completions, rows, places=places)

    return score


def _model_reward(model: RewardModel, reader: AnswerReader, mean: float, max_tokens: int) -> Reward:
    def score(
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[dict[str, Any]],
        examples: Sequence[Example],
    ) -> Scores:
        trees, order = reader.read(examples, completions, max_tokens=max_tokens)
        scores = np.empty(len(completions))
        scores[order] = score_rows(model, trees, max_tokens=max_tokens)
        bad = np.flatnonzero(~np.isfinite(scores))
        if len(bad):
            raise UserError(
                f"reward_model: '{reader.name}' gives {scores[bad[0]]} for the answer to "
                f"{examples[bad[0]].source}; expected a finite number. Its weights may be damaged, or too "
                f"large for {model.precision}, in which it was trained or which suits this machine"
            )
        return scores - mean

    return score


def _model_identity(model: RewardModel, path: str) -> str:
    # Where a model's own code is nowhere to be read, its place has to do.
    digest = model_digest(model.model) or str(Path(path).resolve())
    template = str(model.tokenizer.chat_template or "")
    return f"{digest} {hashlib.blake2b(template.encode(), digest_size=8).hexdigest()} {model.precision}"


def _load_model(path: str, *, use_cpu: bool, precision: Precision | None) -> RewardModel:
    dtype: Dtype = "auto" if precision is None else _DTYPES[precision]
    try:
        return load_reward_model(path, use_cpu=use_cpu, dtype=dtype)
    except UserError as error:
        # The loader speaks of the key that other stages give a model with.
        message = str(error).removeprefix("model_name_or_path: ")
        raise UserError(f"reward_model: {message}") from error


def _reference_mean(model: RewardModel, path: str) -> float:
    mean = None if model.reference is None else model.reference.get("mean")
    if not isinstance(mean, int | float):
        raise UserError(
            f"center_reward_models: no mean score is stored with the reward model '{path}'; `hf-align "
            "reward` stores one where it has evaluation data. Set center_reward_models: false"
        )
    return float(mean)
