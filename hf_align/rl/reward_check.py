"""Before training: can the reward tell answers apart?

Two looks. Reward models are held against answers that were compared beforehand, and every reward against the
first answers that the policy samples, which are those of the first rollout: none is sampled for this. What
happens to the reward afterwards is watched in ``watch``.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from hf_align.data.comparisons.encoding import answer_example
from hf_align.data.prepare import prepare_datasets
from hf_align.data.row_selection import RowSelection
from hf_align.errors import UserError
from hf_align.rl.record import PpoRecord, RewardCheck
from hf_align.runs import processes
from hf_align.runs.record import RUN_FILE, read_run
from hf_align.saved_models.reward_record import RewardRecord
from hf_align.statistics.calibration import accuracy, bin_edges, mean_and_deviation, wilson_interval

if TYPE_CHECKING:
    from hf_align.rewards.models import Reward, Rewards
    from hf_align.rl.episodes import Episode
    from hf_align.rl.recipe import RlConfig
    from hf_align.runs.folder import RunRecord
    from hf_align.training.run import Run
    from hf_align.types import Comparison

logger = logging.getLogger(__name__)

SAME = 1e-6
"""A standard deviation below this share of the mean's size (below this, near 0) is none."""

BINS = 20

_WHAT_HELPS_PAIRS = (
    "Training on it would be training on noise. Train it on more or other comparisons (hf-align reward), and "
    "see that it reads what it was trained to read (reward_model_input, its chat template)."
)
_WHAT_HELPS_SCORES = (
    "Nothing can be learned from it. See that it reads what it is meant to (reward_model_input, the function "
    "on a few answers of your own), and that the answers differ (temperature, max_new_tokens)."
)


def check_on_pairs(run: Run, rewards: Rewards, watched: Rewards | None) -> None:
    """How often each reward model puts compared answers in the right order, in run.json and in the log.

    On ``reward_check_pairs``; without them by the metrics of the model's own run, where its folder has some.
    Every process has to call this. Raises UserError where the pairs cannot be read.
    """
    config: RlConfig = run.config
    models = _models(config, rewards, watched)
    if not models:
        return
    found = processes.on_main(lambda: _on_pairs(run, models))
    for name, entry in found.items():
        _say(run.record, name, entry)
    _update(run.record, RewardCheck(pairs=found))


def check_first_answers(record: RunRecord, episodes: Sequence[Episode], *, samples: int) -> None:
    """How the first answers score under every reward, in run.json; warns where they all score the same.

    ``samples``: answers to each prompt.
    """
    prompts = [one.prompt for one in episodes]
    first = episodes[0]
    columns: dict[str, Callable[[Episode], float]] = {
        **{f"reward/{name}": _part(name) for name in first.parts},
        **{f"watch/{name}": _watched(name) for name in first.watch},
    }
    if len(first.parts) > 1:
        columns = {"reward/total": lambda one: one.reward, **columns}
    found = {
        name: score_distribution([value(one) for one in episodes], prompts if samples > 1 else None)
        for name, value in columns.items()
    }
    for name, entry in found.items():
        problem = cannot_tell_apart(entry)
        if problem:
            _warn(record, f"{name}: {problem}. {_WHAT_HELPS_SCORES}")
    _update(record, RewardCheck(scores=found))


def score_distribution(scores: npt.ArrayLike, prompts: Sequence[int] | None = None) -> dict[str, Any]:
    """Figures and a histogram of the ``scores`` (R,) of answers.

    ``prompts`` (R,): the number of the prompt of each, where prompts have several answers. ``ties``: the
    share of pairs of answers with equal scores, among answers to the same prompt where ``prompts`` is given.
    ``within_std``: the standard deviation of the answers to a prompt around their mean (root mean square over
    prompts); None without ``prompts``. ``edges`` (bins + 1,) and ``counts`` (bins,) are the histogram.
    """
    values = np.asarray(scores, dtype=np.float64)
    groups = [values]
    within = None
    if prompts is not None:
        numbers = np.asarray(prompts)
        groups = [values[numbers == number] for number in np.unique(numbers)]
        within = float(np.sqrt(np.mean([group.var() for group in groups])))
    pairs = sum(len(group) * (len(group) - 1) for group in groups)
    tied = sum(int((counts * (counts - 1)).sum()) for counts in map(_counts, groups))
    heights, edges = np.histogram(values, bin_edges(values, BINS))
    return {
        "answers": len(values),
        **mean_and_deviation(values),
        "min": float(values.min()),
        "max": float(values.max()),
        "ties": tied / pairs if pairs else 0.0,
        "within_std": within,
        "edges": edges.tolist(),
        "counts": heights.tolist(),
    }


def cannot_tell_apart(found: Mapping[str, Any]) -> str:
    """What is wrong with a :func:`score_distribution`, in words; nothing where answers score differently."""
    if found["answers"] < 2:
        return ""
    smallest = SAME * max(1.0, abs(found["mean"]))
    if found["std"] <= smallest:
        return f"all {found['answers']} first answers score {found['mean']:.4g}, so that none is better"
    if found["ties"] == 1 or (found["within_std"] is not None and found["within_std"] <= smallest):
        return "the first answers to the same prompt all score the same; only the prompt makes a difference"
    return ""


def pair_accuracy(
    comparisons: Sequence[Comparison], score: Callable[[Sequence[Comparison]], Sequence[float]]
) -> dict[str, Any]:
    """The share of pairs whose chosen answer scores strictly higher, with Wilson's 95 % interval.

    ``score``: the scores of all answers, one comparison after the other. Every prompt counts once, whatever
    the number of its pairs; answers that were judged equally good make no pair.
    """
    scores = list(score(comparisons))
    margins: list[float] = []
    weights: list[float] = []
    start = 0
    for comparison in comparisons:
        given, count = comparison.scores, len(comparison.answers)
        own = scores[start : start + count]
        start += count
        pairs = [own[i] - own[j] for i in range(count) for j in range(count) if given[i] > given[j]]
        margins += pairs
        weights += [1 / len(pairs) for _ in pairs]
    share = accuracy(margins, weights)
    low, high = wilson_interval(share, sum(weights))
    return {
        "accuracy": share,
        "accuracy_interval": [low, high],
        "pairs": len(margins),
        "prompts": round(sum(weights)),
        "ties": float(np.average(np.array(margins) == 0, weights=weights)) if margins else 0.0,
    }


def _models(config: RlConfig, rewards: Rewards, watched: Rewards | None) -> dict[str, tuple[str, Reward]]:
    """Path and reward of each reward model, by its name in the log; models come first in both."""
    found = {}
    for key, start, given in (
        ("reward_model", "reward/", rewards),
        ("watch_reward_model", "watch/", watched),
    ):
        paths = config.rewards.reward_model if key == "reward_model" else config.watch.watch_reward_model
        parts = list(given.parts.items()) if given is not None else []
        found |= {f"{start}{name}": (path, part) for path, (name, part) in zip(paths, parts, strict=False)}
    return found


def _on_pairs(run: Run, models: Mapping[str, tuple[str, Reward]]) -> dict[str, dict[str, Any]]:
    config: RlConfig = run.config
    if not config.watch.reward_check_pairs:
        return {name: _own_metrics(path) for name, (path, _) in models.items()}
    comparisons = _read_pairs(run)
    source = ", ".join(dataset.path for dataset in config.watch.reward_check_pairs)
    return {
        name: {**pair_accuracy(comparisons, _scores_of(part)), "source": source}
        for name, (_, part) in models.items()
    }


def _read_pairs(run: Run) -> list[Comparison]:
    config: RlConfig = run.config
    data = dataclasses.replace(
        config.data,
        datasets=config.watch.reward_check_pairs,
        eval_datasets=[],
        eval_split_size=0.0,
        mixture_exponent=1.0,
        overlong="drop",
    )
    try:
        prepared = prepare_datasets(data, run.tokenizer, seed=0, comparisons=True, keep_examples=True)
    except UserError as error:
        raise UserError(f"reward_check_pairs: {str(error).removeprefix('datasets: ')}") from error
    return cast("list[Comparison]", list(cast(RowSelection, prepared.train).examples))


def _scores_of(part: Reward) -> Callable[[Sequence[Comparison]], Sequence[float]]:
    def score(comparisons: Sequence[Comparison]) -> Sequence[float]:
        answers: list[str] = []
        examples = []
        for comparison in comparisons:
            texts = [answer for answer in comparison.answers if isinstance(answer, str)]
            if len(texts) < len(comparison.answers):
                raise UserError(
                    f"reward_check_pairs: {comparison.source}: an answer has several turns; rewards score "
                    "answers of one turn. Leave such rows out."
                )
            answers += texts
            # One object for all answers to a prompt, which is computed once then.
            examples += [answer_example(comparison, 0)] * len(comparison.answers)
        # A reward model reads prompts from the examples, and no other columns.
        scores: list[float] = part([""] * len(answers), answers, [{}] * len(answers), examples).tolist()
        return scores

    return score


def _own_metrics(path: str) -> dict[str, Any]:
    """What the run that trained a reward model found on its held-out answers."""
    if (Path(path) / RUN_FILE).is_file():
        after = RewardRecord.of(read_run(path)).reward_evaluation.after
        if "accuracy_interval" in after:
            kept = ("accuracy", "accuracy_interval", "pairs", "prompts", "ties")
            return {**{key: after[key] for key in kept if key in after}, "source": f"{path}/{RUN_FILE}"}
    return {"source": None}


def _say(record: RunRecord, name: str, entry: Mapping[str, Any]) -> None:
    if entry["source"] is None:
        logger.info(
            "%s: not checked on compared answers, since its folder has no metrics of its own; name some with "
            "reward_check_pairs",
            name,
        )
        return
    low, high = entry["accuracy_interval"]
    said = (
        f"{name}: {entry['accuracy']:.1%} of {entry['prompts']} held-out comparisons in the right order (95 "
        f"% interval {low:.1%} to {high:.1%}; {entry['source']})"
    )
    if low > 0.5:
        logger.info("%s", said)
        return
    _warn(record, f"{said}: no better than chance, as far as these tell. {_WHAT_HELPS_PAIRS}")


def _warn(record: RunRecord, message: str) -> None:
    logger.warning("%s", message)
    known = PpoRecord.of(record.content).reward_check.warnings
    _update(record, RewardCheck(warnings=[*known, message]))


def _update(record: RunRecord, found: RewardCheck) -> None:
    record.update(PpoRecord(reward_check=PpoRecord.of(record.content).reward_check | found))


def _counts(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    return np.unique(values, return_counts=True)[1]


def _part(name: str) -> Callable[[Episode], float]:
    return lambda one: one.parts[name]


def _watched(name: str) -> Callable[[Episode], float]:
    return lambda one: one.watch[name]
