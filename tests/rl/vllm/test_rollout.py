"""PPO whose answers come from a server: the loop is the same, and what cannot be right is refused."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_checkpoint import save_tiny_checkpoint
from helpers.tiny_ppo import make_inputs, run
from helpers.vllm_stub import StubServer, serving
from safetensors.torch import load_file

from hf_align.errors import UserError
from hf_align.rl.replay.recording import load
from hf_align.rl.replay.run import differing, replay
from hf_align.runs.metrics import read_metrics, training_rows

LORA = {"adapter": "lora", "lora_r": 4, "learning_rate": 0.02}
WHOLE = {"adapter": "none", "learning_rate": 0.003}
SHORT = {"num_rollouts": 2, "eval_datasets": [], "num_samples": 0, "save_strategy": "no"}
CORRECTED = {"vllm_importance_sampling_correction": True}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def stub(inputs: dict[str, Any]) -> Iterator[StubServer]:
    with serving(inputs["model_name_or_path"]) as found:
        yield found


def train(
    inputs: dict[str, Any], stub: StubServer, folder: Path, **options: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(run.json, the metrics of each rollout) of a run on ``stub``."""
    own = {} if "adapter" in options else LORA
    given = {"vllm_server_base_url": stub.url, **SHORT, **own, **options}
    record = run(inputs, folder, use_vllm=True, **given)
    logged = read_metrics(folder / "metrics.jsonl")
    return record, [dict(row) for row in training_rows(logged.rows)]


def test_an_adapter_is_trained_through_the_server(
    inputs: dict[str, Any], stub: StubServer, tmp_path: Path
) -> None:
    record, rows = train(
        inputs, stub, tmp_path / "run", num_rollouts=3, eval_datasets=inputs["eval_datasets"]
    )
    assert record["status"] == "completed"
    assert record["vllm"]["weights"] == "adapter" and record["vllm"]["logp_difference_at_start"] < 1e-4
    for row in rows:
        assert row["ratio_deviation_at_start"] < 1e-5, "old log-probabilities are the policy's own"
        assert row["sampling_logp_difference_max"] < 1e-3, "the server has the weights of the policy"
        assert "importance_weight" not in row
    assert abs(rows[-1]["kl"]) > 0.01, "weights have moved by far more than that"
    names = [body["lora_name"] for body in stub.asked("/v1/load_lora_adapter")]
    # The check, the evaluations before and after, and three rollouts.
    assert len(set(names)) == len(names) == 6
    assert [body["lora_name"] for body in stub.asked("/v1/unload_lora_adapter")] == names
    assert not stub.loaded and not (tmp_path / "run" / "vllm").exists(), "nothing is left behind"


def test_what_a_server_is_asked(inputs: dict[str, Any], stub: StubServer, tmp_path: Path) -> None:
    _, rows = train(inputs, stub, tmp_path / "run", top_k=50, num_rollouts=2)
    # After the four short answers of the check.
    first, second = (stub.asked("/v1/completions")[4 + 4 * i : 8 + 4 * i] for i in range(2))
    recorded = [load(tmp_path / "run", step) for step in (1, 2)]
    for asked, recording in zip((first, second), recorded, strict=True):
        prompts = sorted(prompt.ids for prompt in recording.prompts)
        assert sorted(tuple(body["prompt"]) for body in asked) == prompts, "token ids, as they are"
        assert all(body["n"] == 2 and body["max_tokens"] == 8 and body["top_k"] == 50 for body in asked)
        # Without these a server takes them from the model's own settings.
        fixed = {"min_p": 0, "repetition_penalty": 1, "presence_penalty": 0, "frequency_penalty": 0}
        assert all(body.items() >= {**fixed, "ignore_eos": True, "temperature": 1}.items() for body in asked)
        assert all(0 <= body["seed"] < 2**31 for body in asked)
    assert len({body["seed"] for body in first + second}) == 8
    ended = [episode for recording in recorded for episode in recording.episodes if episode.stopped]
    stops = set(first[0]["stop_token_ids"])
    assert all(int(episode.tokens[-1]) in stops for episode in ended)
    assert rows[0]["eos_rate"] == sum(one.stopped for one in recorded[0].episodes) / 8


def test_a_whole_model_is_trained_through_the_server(
    inputs: dict[str, Any], stub: StubServer, tmp_path: Path
) -> None:
    record, rows = train(inputs, stub, tmp_path / "run", **WHOLE)
    assert record["vllm"]["weights"] == "reloaded"
    assert all(row["sampling_logp_difference_max"] < 1e-3 for row in rows)
    assert abs(rows[-1]["kl"]) > 0.01, "weights have moved by far more than that"
    assert len(stub.asked("/collective_rpc")) == len(stub.asked("/reset_prefix_cache")) == 3
    assert not stub.asked("/v1/load_lora_adapter")


def test_at_another_temperature(inputs: dict[str, Any], stub: StubServer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"temperature 1, and answers are sampled at 0\.5.*--logprobs-mode"):
        train(inputs, stub, tmp_path / "raw", temperature=0.5)
    stub.raw = False
    _, rows = train(inputs, stub, tmp_path / "run", temperature=0.5)
    assert all(row["sampling_logp_difference_max"] < 1e-3 for row in rows)


@pytest.mark.parametrize(
    ("ratio", "options", "weight", "limited"),
    [
        (0.5, {}, 0.5, 0.0),
        pytest.param(4.0, {}, 3.0, 1.0, marks=pytest.mark.slow),
        pytest.param(4.0, {"vllm_importance_sampling_mode": "token_mask"}, 0.0, 1.0, marks=pytest.mark.slow),
        pytest.param(4.0, {"vllm_importance_sampling_clip_max": 5.0}, 4.0, 0.0, marks=pytest.mark.slow),
    ],
)
def test_weights_multiply_the_policy_loss(
    inputs: dict[str, Any],
    stub: StubServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ratio: float,
    options: dict[str, Any],
    weight: float,
    limited: float,
) -> None:
    monkeypatch.setattr("hf_align.rl.vllm.rollout.DIFFERENT", 2.0)
    once = {"num_rollouts": 1, "num_ppo_epochs": 1, "num_mini_batches": 1, "whiten_advantages": False}
    _, [plain] = train(inputs, stub, tmp_path / "plain", **once)
    stub.offset = -math.log(ratio)  # every token is said to be so many times less likely there
    _, [row] = train(inputs, stub, tmp_path / "run", **once, **CORRECTED, **options)
    assert row["importance_weight"] == pytest.approx(weight, rel=1e-3)
    assert row["importance_limited"] == limited
    assert row["sampling_logp_difference"] == pytest.approx(abs(math.log(ratio)), rel=1e-3)
    assert row["policy_loss"] == pytest.approx(weight * plain["policy_loss"], rel=1e-3, abs=1e-9)
    assert row["value_loss"] == pytest.approx(plain["value_loss"], rel=1e-6)
    assert row["ratio_deviation_at_start"] < 1e-5


@pytest.mark.slow
def test_resumed_and_replayed_as_if_it_had_not_stopped(
    inputs: dict[str, Any], stub: StubServer, tmp_path: Path
) -> None:
    options = {"num_rollouts": 3, "save_strategy": "steps", "save_steps": 2, **CORRECTED}
    train(inputs, stub, tmp_path / "whole", **options)
    train(inputs, stub, tmp_path / "parts", **options)
    folder = tmp_path / "parts"
    for name in ("checkpoint-3", "rollouts/rollout-000003.safetensors"):
        (folder / name).rename(tmp_path / Path(name).name)
    with serving(inputs["model_name_or_path"]) as another:
        # A server that was started anew, at another address.
        train(inputs, another, folder, **options, resume_from_checkpoint=str(folder / "checkpoint-2"))
    for name in ("adapter_model.safetensors", "value_head.safetensors"):
        ours, theirs = load_file(folder / name), load_file(tmp_path / "whole" / name)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    # Nothing is sampled in a replay, so that no server is needed: the first one is not asked.
    asked = len(stub.requests)
    for step in (2, 3):
        replayed = replay(tmp_path / "whole", step)
        assert replayed.again is not None and replayed.again.failure == ""
        assert "importance_weight" in replayed.again.metrics
        assert differing(replayed.recording.metrics, replayed.again.metrics) == []
    assert len(stub.requests) == asked


def test_a_server_that_does_not_follow_is_noticed(
    inputs: dict[str, Any], stub: StubServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stub.ignores_adapters = True
    with caplog.at_level(logging.WARNING, logger="hf_align"):
        _, rows = train(inputs, stub, tmp_path / "run", learning_rate=0.1)
    assert rows[0]["sampling_logp_difference"] < 1e-4 < 0.01 < rows[1]["sampling_logp_difference"]
    assert "does not have the weights of the policy" in caplog.text


def refused(inputs: dict[str, Any], stub: StubServer, folder: Path, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        train(inputs, stub, folder, **options)
    return str(caught.value)


def test_no_server(inputs: dict[str, Any], stub: StubServer, tmp_path: Path) -> None:
    started = time.monotonic()
    found = refused(
        inputs,
        stub,
        tmp_path / "run",
        vllm_server_base_url="http://127.0.0.1:9",
        vllm_server_timeout=0.5,
    )
    assert "no server answers at http://127.0.0.1:9 within 0.5 s (vllm_server_timeout)" in found
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve" in found
    assert "--dtype float32 --enable-lora --max-lora-rank 8 --port 9" in found
    assert time.monotonic() - started < 60


def test_a_server_of_another_kind(inputs: dict[str, Any], stub: StubServer, tmp_path: Path) -> None:
    url = f"{stub.url}/v1"
    assert "lists no model" in refused(inputs, stub, tmp_path / "run", vllm_server_base_url=url)


def test_a_key(
    inputs: dict[str, Any], stub: StubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.key = "k1"
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    assert "Unauthorized" in refused(inputs, stub, tmp_path / "run")
    monkeypatch.setenv("VLLM_API_KEY", "k1")
    train(inputs, stub, tmp_path / "again", num_rollouts=1)


def test_a_context_that_is_too_short(inputs: dict[str, Any], tmp_path: Path) -> None:
    with serving(inputs["model_name_or_path"], max_length=40) as small:
        found = refused(inputs, small, tmp_path / "run")
    assert "max_new_tokens: the longest prompt and 8 more tokens are" in found
    assert "takes 40" in found and "--max-model-len" in found


@pytest.mark.parametrize(
    ("switch", "trained", "setting"),
    [
        ("adapters", LORA, "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve"),
        ("reloads", WHOLE, "VLLM_SERVER_DEV_MODE=1 vllm serve"),
    ],
)
def test_a_server_that_may_load_nothing(
    inputs: dict[str, Any],
    stub: StubServer,
    tmp_path: Path,
    switch: str,
    trained: dict[str, Any],
    setting: str,
) -> None:
    setattr(stub, switch, False)
    found = refused(inputs, stub, tmp_path / "run", **trained)
    assert "Not Found (status 404)" in found and setting in found and str(tmp_path / "run") in found


def test_another_model(inputs: dict[str, Any], tmp_path: Path) -> None:
    other = save_tiny_checkpoint(tmp_path / "other", initializer_range=0.5)
    with serving(other) as wrong:
        found = refused(inputs, wrong, tmp_path / "run")
    assert "does not answer as the policy does" in found and f"It serves '{other}'" in found
    larger = save_tiny_checkpoint(tmp_path / "larger", vocab_size=4000)
    with serving(larger) as wrong:
        found = refused(inputs, wrong, tmp_path / "run2", adapter="lora", lora_target_modules=["q_proj"])
    assert "it serves another model" in found


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda choices: choices[:-1], "1 answers in place of 2"),
        (lambda choices: [one | {"token_ids": None} for one in choices], "lacks the token ids"),
        (lambda choices: [one | {"logprobs": None} for one in choices], "lacks the token ids or log-prob"),
        (lambda choices: [one | {"token_ids": [*one["token_ids"], 5]} for one in choices], "tokens with"),
        (lambda choices: [one | {"finish_reason": "abort"} for one in choices], "ended by 'abort'"),
    ],
)
def test_broken_answers(
    inputs: dict[str, Any], stub: StubServer, tmp_path: Path, spoil: Any, message: str
) -> None:
    # Those of the first rollout: the check asks for one answer to each prompt.
    stub.spoil = lambda found: (
        found if len(found["choices"]) == 1 else found | {"choices": spoil(found["choices"])}
    )
    assert message in refused(inputs, stub, tmp_path / "run")


def test_a_server_that_fails_in_the_middle(inputs: dict[str, Any], stub: StubServer, tmp_path: Path) -> None:
    def fail(found: dict[str, Any]) -> Any:
        stub.loaded.clear()  # as after a restart
        return found

    stub.spoil = fail
    found = refused(inputs, stub, tmp_path / "run")
    assert "refuses to answer" in found or "cannot be found" in found
    record = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert record["status"] == "interrupted"
