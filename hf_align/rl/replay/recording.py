"""A recorded rollout: everything that an update depends on besides the weights, as one safetensors file.

Arrays of all answers stand one after the other, with the places where each begins; numbers keep every bit
that was computed with. What can be had from them is not stored: texts, penalties, advantages. What this
module leaves out: when rollouts are recorded and which are kept (``replay.recorder``), and replaying them
(``replay.run``).
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_align.data.chat.prompts import Prompt
from hf_align.errors import UserError
from hf_align.rewards.scaling import Scores
from hf_align.rl.checkpoints import Progress
from hf_align.rl.episodes import Episode
from hf_align.runs.record import encode_json, write_atomic
from hf_align.types import Example

FOLDER = "rollouts"
FORMAT = 1
_NAME = re.compile(r"rollout-(\d+)\.safetensors")
_NAMED = ("parts", "watch")
_OF_TOKENS = ("sampled_logps", "logps", "entropies", "reference_logps", "values")


@dataclass(frozen=True)
class RunContext:
    """Where and under which recipe a rollout was made. ``rollouts``: of the whole run as planned.

    ``processes`` and ``threads`` of each: sums are rounded differently with other numbers of them.
    ``precision``, ``device`` and ``torch`` (its version) as well. ``recipe``: a digest of the keys that
    decide about updates. ``seed``: of the run.
    """

    rollouts: int
    processes: int
    threads: int
    precision: str
    device: str
    torch: str
    recipe: str
    seed: int


@dataclass(frozen=True)
class Recording:
    """One rollout of B answers to P prompts, ordered by prompt.

    ``prompts`` (P): tokens and place in the data; the rest of them is not recorded. ``scores`` (B,): what
    was learned from, after penalty, normalisation and clipping. ``before``: how far the run was, with the
    KL coefficient of this rollout and the moments before it. ``order_seed``: of the mini-batches.
    ``optimizer_steps``: those planned before this update. ``metrics``: what was logged, by name.
    """

    prompts: list[Prompt]
    episodes: list[Episode]
    scores: Scores
    before: Progress
    order_seed: tuple[int, ...]
    optimizer_steps: int
    metrics: dict[str, float]
    circumstances: RunContext

    @property
    def step(self) -> int:
        """The step of this rollout in metrics.jsonl; the first one is 1."""
        return self.before.rollouts + 1

    @property
    def finished(self) -> bool:
        """Whether its update came to its end; rollouts are recorded before it, and again after it."""
        return "update_steps" in self.metrics


def recorded_prompt(ids: Iterable[int], source: str) -> Prompt:
    """A prompt as far as it is recorded: the text is to be decoded, the row of the data is not known."""
    return Prompt(tuple(map(int, ids)), "", "", Example(source, prompt="", completion=""), {})


def path_of(run_dir: str | Path, step: int) -> Path:
    """The file of a recorded rollout."""
    return Path(run_dir) / FOLDER / f"rollout-{step:06d}.safetensors"


def recorded_steps(run_dir: str | Path) -> list[int]:
    """The steps that have a file in ``run_dir``, in order; whether it is whole is not looked at."""
    names = (_NAME.fullmatch(path.name) for path in (Path(run_dir) / FOLDER).glob("rollout-*.safetensors"))
    return sorted(int(match[1]) for match in names if match)


def pack(recording: Recording) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    """Arrays by name, and texts by name; :func:`unpack` gives the same recording, to the last bit."""
    episodes, prompts = recording.episodes, recording.prompts
    arrays: dict[str, npt.NDArray[Any]] = {
        "prompt_tokens": _joined([np.asarray(prompt.ids, np.int32) for prompt in prompts], np.int32),
        "prompt_starts": _starts([len(prompt.ids) for prompt in prompts]),
        "answer_tokens": _joined([episode.tokens for episode in episodes], np.int32),
        "answer_starts": _starts([len(episode.tokens) for episode in episodes]),
        "answer_prompts": np.array([episode.prompt for episode in episodes], np.int32),
        "stopped": np.array([episode.stopped for episode in episodes], np.bool_),
        "rewards": np.array([episode.reward for episode in episodes], np.float64),
        "scores": np.asarray(recording.scores, np.float64),
    }
    named = {kind: list(getattr(episodes[0], kind)) for kind in _NAMED}
    for kind, names in named.items():
        rows = [[getattr(episode, kind)[name] for name in names] for episode in episodes]
        arrays[kind] = np.array(rows, np.float64)
    for name in _OF_TOKENS:
        arrays[name] = _joined([getattr(episode, name) for episode in episodes], np.float32)
    texts = {
        **named,
        "sources": [prompt.example.source for prompt in prompts],
        "before": recording.before.to_dict(),
        "order_seed": list(recording.order_seed),
        "optimizer_steps": recording.optimizer_steps,
        "figures": recording.metrics,
        "circumstances": dataclasses.asdict(recording.circumstances),
    }
    content = encode_json({"format": FORMAT, **texts}).decode("utf-8")
    return arrays, {"recording": content}


def unpack(arrays: Mapping[str, npt.NDArray[Any]], texts: Mapping[str, str]) -> Recording:
    """What :func:`pack` was given; texts of answers and rows of prompts, which it leaves out, are empty.

    Raises ValueError, KeyError or TypeError for anything else than what ``pack`` returns.
    """
    content = json.loads(texts["recording"])
    if content["format"] != FORMAT:
        raise ValueError(f"its format is {content['format']}, this release reads {FORMAT}")
    prompts = [
        recorded_prompt(ids, source)
        for ids, source in zip(
            _cut(arrays["prompt_tokens"], arrays["prompt_starts"]), content["sources"], strict=True
        )
    ]
    of_tokens = {name: _cut(arrays[name], arrays["answer_starts"]) for name in _OF_TOKENS}
    tokens = _cut(arrays["answer_tokens"], arrays["answer_starts"])
    named: list[dict[str, Any]] = [
        {kind: dict(zip(content[kind], arrays[kind][i].tolist(), strict=True)) for kind in _NAMED}
        for i in range(len(tokens))
    ]
    episodes = [
        Episode(
            prompt=int(arrays["answer_prompts"][i]),
            tokens=tokens[i],
            stopped=bool(arrays["stopped"][i]),
            text="",
            reward=float(arrays["rewards"][i]),
            **named[i],
            **{name: cut[i] for name, cut in of_tokens.items()},
        )
        for i in range(len(tokens))
    ]
    return Recording(
        prompts,
        episodes,
        arrays["scores"],
        Progress.from_dict(content["before"]),
        tuple(content["order_seed"]),
        int(content["optimizer_steps"]),
        # NaN and infinities are texts in JSON.
        {name: float(value) for name, value in content["figures"].items()},
        RunContext(**content["circumstances"]),
    )


def save(recording: Recording, run_dir: str | Path) -> Path:
    """Write the file of ``recording`` whole or not at all. Raises OSError, which names the file."""
    from safetensors.numpy import save as encode

    path = path_of(run_dir, recording.step)
    try:
        write_atomic(path, encode(*pack(recording)))
    except OSError as error:
        error.filename = str(path)  # a full disk names none
        raise
    return path


def load(run_dir: str | Path, step: int) -> Recording:
    """The recording of ``step``. Raises UserError where there is none, or where its file is broken."""
    from safetensors import SafetensorError, safe_open

    path = path_of(run_dir, step)
    if not path.is_file():
        raise UserError(f"{run_dir}: rollout {step} is not recorded. {_which(recorded_steps(run_dir))}")
    try:
        with safe_open(path, framework="np") as stream:
            return unpack({name: stream.get_tensor(name) for name in stream.keys()}, stream.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(
            f"{path}: this is not a whole recording of a rollout ({type(error).__name__}: {error}). Delete "
            "it; the rollouts after it can be replayed from a checkpoint that lies after it."
        ) from error


def _which(steps: Sequence[int]) -> str:
    if not steps:
        return (
            "No rollout of this run is: record_rollouts was false, or the run is older than that option, or "
            "its folder rollouts/ was deleted."
        )
    ranges: list[list[int]] = []
    for step in steps:
        if ranges and ranges[-1][-1] == step - 1:
            ranges[-1] = [ranges[-1][0], step]
        else:
            ranges.append([step])
    return "Recorded: " + ", ".join("-".join(map(str, found)) for found in ranges) + "."


def _joined(parts: Sequence[npt.NDArray[Any]], kind: type[np.generic]) -> npt.NDArray[Any]:
    return np.concatenate([np.zeros(0, kind), *parts]).astype(kind, copy=False)


def _starts(lengths: Sequence[int]) -> npt.NDArray[np.int64]:
    """Where each part begins, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _cut(joined: npt.NDArray[Any], starts: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    if starts[0] != 0 or starts[-1] != len(joined) or (np.diff(starts) < 0).any():
        raise ValueError(f"{len(joined)} values do not fit the places where parts begin")
    return [joined[start:end] for start, end in itertools.pairwise(starts)]
