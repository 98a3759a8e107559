"""What runs that sample answers share: which prompts fit, what decides an answer, and going on with a run."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_align.best_of_n.answers import HELD_OUT_FILE, SCORED_ANSWERS_FILE
from hf_align.best_of_n.recipe import BestOfNConfig
from hf_align.best_of_n.record import BestOfNRecord
from hf_align.best_of_n.sampling import Sampler
from hf_align.config import DataConfig
from hf_align.config.fields import keys_that_change, specs_of
from hf_align.data.chat.prompts import Prompt
from hf_align.errors import UserError
from hf_align.rewards.models import Rewards
from hf_align.rewards.recipe import RewardsConfig
from hf_align.runs import disk_full
from hf_align.runs import folder as run_folder
from hf_align.runs.record import json_ready, read_run
from hf_align.sampling.options import Sampling
from hf_align.sampling.stopping import stop_token_ids
from hf_align.saved_models.run_models import ModelSource

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

_MADE = (SCORED_ANSWERS_FILE, HELD_OUT_FILE, "round-1")
"""What a run that got anywhere has left."""


def make_sampler(
    config: BestOfNConfig,
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rewards: Rewards,
    *,
    temperature: float | None = None,
    samples: int | None = None,
    seed: int | None = None,
) -> Sampler:
    """The sampler of a recipe; ``temperature``, ``samples`` and ``seed`` in place of the recipe's own."""
    options, sampling = config.best_of_n, sampling_of(config)
    return Sampler(
        model,
        tokenizer,
        stop_token_ids(model, tokenizer),
        rewards,
        sampling if temperature is None else replace(sampling, temperature=temperature),
        samples=options.num_generations if samples is None else samples,
        seed=config.training.seed if seed is None else seed,
        max_rows=options.generation_batch_size,
        missing_eos_penalty=config.rewards.missing_eos_penalty,
    )


def sampling_of(config: BestOfNConfig) -> Sampling:
    """How the tokens of an answer are chosen."""
    options = config.best_of_n
    return Sampling(options.max_new_tokens, options.temperature, options.top_p, options.top_k)


def data_as_trained(data: DataConfig, source: ModelSource) -> DataConfig:
    """``data`` as the model was trained: with its system prompt, where the recipe names none, and in turns of
    the same form."""
    trained = source.recipe
    shape = {
        "fold_system_prompt": data.fold_system_prompt or trained.get("fold_system_prompt") is True,
        "merge_turns": data.merge_turns or trained.get("merge_turns") is True,
    }
    prompt = trained.get("system_prompt")
    if data.system_prompt is None and isinstance(prompt, str):
        return replace(data, system_prompt=prompt, **shape)
    return replace(data, **shape)


def that_fit(prompts: list[Prompt], limit: int | None, max_new_tokens: int) -> list[Prompt]:
    """The prompts that leave room for an answer in the model's context of ``limit`` tokens.

    Raises UserError where none does.
    """
    if limit is None:
        return prompts
    fitting = [prompt for prompt in prompts if len(prompt.ids) + max_new_tokens <= limit]
    if prompts and not fitting:
        raise UserError(
            f"max_new_tokens: found {max_new_tokens}, but no prompt leaves that much room in the model's "
            f"{limit} positions (the shortest prompt: {min(len(prompt.ids) for prompt in prompts)} tokens)"
        )
    if len(fitting) < len(prompts):
        logger.warning(
            "%d of %d prompts leave no room for max_new_tokens=%d in the model's %d positions; left out",
            len(prompts) - len(fitting),
            len(prompts),
            max_new_tokens,
            limit,
        )
    return fitting


def answering_identity(config: BestOfNConfig, rewards: Rewards) -> dict[str, Any]:
    """What the recipe says on how answers are sampled and scored, by the key that sets it."""
    return {
        "num_generations": config.best_of_n.num_generations,
        **asdict(sampling_of(config)),
        "seed": config.training.seed,
        "rewards": rewards.identity(),
        # Which rewards there are is in their identity, by content.
        **{key: getattr(config.rewards, key) for key in keys_that_change(specs_of(RewardsConfig), "result")},
    }


def continues(config: BestOfNConfig, identity: dict[str, Any]) -> bool:
    """Whether the run goes on with what is in its folder.

    Raises UserError where that is of another model, sampled, scored or trained otherwise.
    """
    output_dir = Path(config.training.output_dir)
    if not config.best_of_n.resume or not (output_dir / run_folder.RUN_FILE).is_file():
        return False
    record = BestOfNRecord.of(read_run(output_dir))
    if record.command != "best-of-n":
        raise UserError(
            f"output_dir: '{output_dir}' holds a run of hf-align {record.command}; choose another "
            "folder, or set resume: false to move that run aside"
        )
    earlier, now = record.identity, json_ready(identity)
    # A key that one side does not know came or went with a release, or no longer makes other answers.
    differing = [key for key in now if not earlier or earlier.get(key, now[key]) != now[key]]
    if "train" in differing:  # then little else is alike
        differing = ["train"]
    if differing and any((output_dir / name).exists() for name in _MADE):
        shown = "; ".join(_difference(key, earlier.get(key), now.get(key)) for key in differing)
        raise UserError(
            f"output_dir: the answers in '{output_dir}' cannot be gone on with: {shown}. Choose another "
            "folder, or set resume: false to move that run aside"
        )
    return True


def _difference(key: str, earlier: Any, now: Any) -> str:
    if key == "model_name_or_path":
        return "they are of a model with other weights"
    if key == "rewards" and isinstance(earlier, dict) and isinstance(now, dict):
        changed = [name for name in {**earlier, **now} if earlier.get(name) != now.get(name)]
        return f"they were scored by other rewards ({', '.join(changed)})"
    if key.endswith("prompts"):
        return f"the {key} have changed"
    return f"{key} was {earlier} and is {now}"


@contextlib.contextmanager
def marked_if_cut_short(record: run_folder.RunRecord) -> Iterator[None]:
    """Whatever ends the run in here is noted in run.json; what was done so far is on the disk.

    Raises UserError in place of the error of a full disk.
    """
    try:
        yield
    except BaseException as error:
        folder = record.path.parent
        if record.main:
            full = disk_full.reason(error)
            with contextlib.suppress(OSError):  # a full disk; the error itself says so
                record.update(BestOfNRecord(status="interrupted"))
            if full:
                raise UserError(
                    f"{folder}: {full}. What was finished is there; make room, and the same command goes on "
                    "with it"
                ) from error
            if not isinstance(error, UserError):
                print(f"\nInterrupted; the same command goes on with what is in {folder}.", file=sys.stderr)
        raise
