"""Recorded rollouts: every bit comes back, and a broken file is named."""

from __future__ import annotations

import errno
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hf_align.errors import UserError
from hf_align.rewards.scaling import RunningMoments
from hf_align.rl.checkpoints import Progress
from hf_align.rl.episodes import Episode
from hf_align.rl.replay.recording import (
    Recording,
    RunContext,
    load,
    pack,
    path_of,
    recorded_prompt,
    recorded_steps,
    save,
    unpack,
)
from hf_align.runs import disk_full, record

OF_TOKENS = ("sampled_logps", "logps", "entropies", "reference_logps", "values")
WHERE = RunContext(9, 2, 1, "fp32", "cpu", "2.0", "abc", 42)

doubles = st.floats(width=64)
names = st.lists(st.text(min_size=1, max_size=5), unique=True, max_size=3)


@st.composite
def recordings(draw: st.DrawFn) -> Recording:
    ids = st.lists(st.integers(0, 2**31 - 1), max_size=6)
    prompts = [recorded_prompt(draw(ids), draw(st.text(max_size=12))) for _ in range(draw(st.integers(1, 3)))]
    parts, watch = draw(names), draw(names)
    episodes = []
    for number in range(len(prompts)):
        for _ in range(draw(st.integers(1, 2))):
            length = draw(st.integers(1, 5))
            of_tokens = {name: draw(arrays(np.float32, length)) for name in OF_TOKENS}
            tokens = draw(arrays(np.int32, length))
            episode = Episode(number, tokens, stopped=draw(st.booleans()), text="", **of_tokens)
            episode.reward = draw(doubles)
            episode.parts = {name: draw(doubles) for name in parts}
            episode.watch = {name: draw(doubles) for name in watch}
            episodes.append(episode)
    finite = st.floats(allow_nan=False, allow_infinity=False)
    moments = RunningMoments(draw(st.integers(0, 10**9)), draw(finite), draw(finite))
    before = Progress(draw(st.integers(0, 10**6)), 3, 4, draw(finite), draw(finite), moments)
    metrics = {name: draw(doubles) for name in draw(names)}
    return Recording(
        prompts, episodes, draw(arrays(np.float64, len(episodes))), before, (1, 2, 3), 8, metrics, WHERE
    )


def bits(value: Any) -> bytes:
    return np.asarray(value).tobytes()


def assert_same(ours: Recording, theirs: Recording) -> None:
    assert [(one.ids, one.example.source) for one in ours.prompts] == [
        (one.ids, one.example.source) for one in theirs.prompts
    ]
    assert len(ours.episodes) == len(theirs.episodes)
    for one, other in zip(ours.episodes, theirs.episodes, strict=True):
        assert (one.prompt, one.stopped) == (other.prompt, other.stopped)
        for name in ("tokens", *OF_TOKENS):
            assert getattr(one, name).dtype == getattr(other, name).dtype
            assert bits(getattr(one, name)) == bits(getattr(other, name)), name
        assert one.parts.keys() == other.parts.keys() and one.watch.keys() == other.watch.keys()
        for mine, its in ((one.parts, other.parts), (one.watch, other.watch)):
            assert bits(list(mine.values())) == bits(list(its.values()))
        assert bits(one.reward) == bits(other.reward)
    assert bits(ours.scores) == bits(theirs.scores)
    for name in ("before", "order_seed", "optimizer_steps", "circumstances", "step", "finished"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.metrics.keys() == theirs.metrics.keys()
    for name, value in ours.metrics.items():
        again = theirs.metrics[name]
        # NaN is one NaN in JSON, whatever its bits.
        assert bits(value) == bits(again) or (math.isnan(value) and math.isnan(again)), name


@settings(deadline=None, max_examples=25)
@given(recordings())
def test_what_was_packed_comes_back_to_the_bit(recording: Recording) -> None:
    assert_same(recording, unpack(*pack(recording)))


def example(step: int = 3, answers: int = 2, length: int = 4) -> Recording:
    generator = np.random.default_rng(step)
    episodes = [
        Episode(
            0,
            np.arange(length, dtype=np.int32),
            stopped=True,
            text="",
            reward=0.5,
            parts={"a": 0.5},
            **{name: generator.normal(size=length).astype(np.float32) for name in OF_TOKENS},
        )
        for _ in range(answers)
    ]
    return Recording(
        [recorded_prompt([5, 6, 7], "data.jsonl:1")],
        episodes,
        np.full(answers, 0.5),
        Progress(rollouts=step - 1, kl_coef=0.05),
        (42, 1, step - 1),
        4 * (step - 1),
        {"kl": 0.25, "update_steps": 4.0},
        WHERE,
    )


def test_a_file_comes_back_and_is_listed(tmp_path: Path) -> None:
    for step in (3, 12):
        assert save(example(step), tmp_path) == path_of(tmp_path, step)
    assert recorded_steps(tmp_path) == [3, 12]
    assert_same(example(12), load(tmp_path, 12))
    assert [path.name for path in (tmp_path / "rollouts").iterdir() if path.name.startswith(".")] == []


def test_a_token_takes_24_bytes(tmp_path: Path) -> None:
    small, large = (save(example(1, 1, n), tmp_path).stat().st_size for n in (8, 1008))
    assert large - small == pytest.approx(24 * 1000, abs=64)  # int32 and five float32; the header may grow


def test_a_step_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"rollout 5 is not recorded\. No rollout of this run is"):
        load(tmp_path, 5)
    for step in (1, 2, 3, 7):
        save(example(step), tmp_path)
    with pytest.raises(UserError, match=r"rollout 5 is not recorded\. Recorded: 1-3, 7\."):
        load(tmp_path, 5)


@pytest.mark.parametrize("harm", ["cut off", "empty", "text", "other arrays", "later format"])
def test_a_broken_file_is_named(tmp_path: Path, harm: str) -> None:
    from safetensors.numpy import save_file

    path = save(example(), tmp_path)
    content = path.read_bytes()
    if harm == "other arrays":
        packed, texts = pack(example())
        save_file(packed | {"answer_starts": np.array([0, 3], np.int64)}, path, texts)
    elif harm == "later format":
        packed, texts = pack(example())
        texts["recording"] = texts["recording"].replace('"format": 1', '"format": 2')
        save_file(packed, path, texts)
    else:
        path.write_bytes({"cut off": content[:-9], "empty": b"", "text": b"no tensors at all"}[harm])
    with pytest.raises(
        UserError, match=r"rollout-000003\.safetensors: this is not a whole recording"
    ) as error:
        load(tmp_path, 3)
    if harm == "later format":
        assert "its format is 2, this release reads 1" in str(error.value)


def test_a_write_that_fails_leaves_the_earlier_file_and_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(example(), tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(record.os, "fsync", full)
    other = example(answers=1)
    with pytest.raises(OSError) as failed:
        save(other, tmp_path)
    monkeypatch.undo()
    assert_same(example(), load(tmp_path, 3))
    assert len(list((tmp_path / "rollouts").iterdir())) == 1
    said = str(disk_full.explain(failed.value, str(tmp_path), command="again"))
    assert "rollout-000003.safetensors failed: no space left on the disk" in said
