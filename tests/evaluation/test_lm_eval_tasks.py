"""Tasks of lm-eval on models of ours: found, run side by side, on adapters, and mistakes.

Skipped where lm-eval is not installed (``pip install 'hf_align[lm-eval]'``).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.lm_eval_tasks import (
    PAIRS,
    asked,
    engine,
    loaded,
    metrics,
    saved,
    theirs,
    write_task,
    write_tasks,
)
from helpers.tiny_adapters import save_adapter
from helpers.tiny_checkpoint import save_tiny_checkpoint, tiny_tokenizer
from transformers import AutoModelForCausalLM

from hf_align.adapters.custom.model import add_adapter
from hf_align.adapters.methods import METHODS
from hf_align.commands import evaluate
from hf_align.config import ModelConfig
from hf_align.errors import UserError
from hf_align.evaluation.recipe import LmEvalConfig
from hf_align.saved_models.run_models import find_model, load_run_model

pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install 'hf_align[lm-eval]'")

from lm_eval.tasks import TaskManager

from hf_align.evaluation.lm_eval import bridge
from hf_align.evaluation.lm_eval.bridge import open_tasks, run_tasks


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return saved(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def tasks_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    write_tasks(folder)
    return folder


def test_the_command_measures_models_side_by_side(folder, tasks_folder, tmp_path, capsys):
    base = str(folder / "base")
    recipe = {
        "models": [base, save_adapter(tmp_path / "adapter", base, scale=0.3)],
        "lm_eval_tasks": ["places", "texts", "answers"],
        "lm_eval_include_path": str(tasks_folder),
        "lm_eval_limit": 3,
        "use_cpu": True,
        "output_dir": str(tmp_path / "run"),
    }
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    record = evaluate.main(["--config", str(tmp_path / "r.yaml")])
    results = record["evaluation"]["results"]["lm_eval"]
    assert list(results) == ["places", "texts", "answers"]
    places = results["places"]
    assert list(places) == ["base", "adapter"] and list(places["base"]["subjects"]) == ["cities", "towns"]
    assert (places["base"]["documents"], places["base"]["metrics"]) == (3, {"acc": True})
    assert "difference" in places["adapter"] and results["texts"]["base"]["documents"] == 3
    assert results["texts"]["base"]["bits_per_byte"] != results["texts"]["adapter"]["bits_per_byte"]
    assert "exact_match,first_word" in results["answers"]["base"]
    table = capsys.readouterr().out
    page = (tmp_path / "run" / "report.html").read_text()
    for words in ("places", "bits_per_byte", "exact_match, first_word"):
        assert words in table and words in page
    assert "lm-eval tasks" in page and "By subject" in page


def save_own(folder: Path, base: str, name: str) -> str:
    """An adapter of ours with random weights."""
    options = METHODS[name].options(**({"width": 4} if name == "bottleneck" else {}))
    model = add_adapter(
        AutoModelForCausalLM.from_pretrained(base), METHODS[name], options, task_type="CAUSAL_LM"
    )
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("method", ["lora", "bottleneck", "bitfit", "ladder"])
def test_adapters_are_taken_as_they_are(folder, tmp_path, method):
    base = str(folder / "base")
    if method == "lora":
        path = save_adapter(tmp_path / method, base, scale=0.3)
    else:
        if method == "bitfit":
            base = save_tiny_checkpoint(
                tmp_path / "base", attention_bias=True, mlp_bias=True, initializer_range=0.3
            )
        path = save_own(tmp_path / method, base, method)
    source = find_model(ModelConfig(path, dtype="float32"), chosen=("dtype",), use_cpu=True)
    # Plain forward passes through the adapter, by lm-eval's own class.
    expected = theirs(load_run_model(source, use_cpu=True)[0]).loglikelihood(PAIRS, disable_tqdm=True)
    lm = engine(*load_run_model(source, use_cpu=True))
    found = [x for x, _ in lm.loglikelihood(PAIRS)]
    np.testing.assert_allclose(found, [x for x, _ in expected], atol=1e-4)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    without = [x for x, _ in engine(plain).loglikelihood(PAIRS)]
    assert np.abs(np.array(found) - np.array(without)).max() > 1e-2


def test_chat_templates_are_applied_where_that_is_asked(folder, tasks_folder):
    config = LmEvalConfig(["answers"], str(tasks_folder), None, 1, True)
    tasks = open_tasks(config)
    found = run_tasks(engine(loaded(folder)), tasks, config, system_prompt="Be short.")
    prompt = found["samples"]["answers"][0]["arguments"][0][0]
    assert prompt == (
        "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nWhere do lamps go?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    # The template writes the token that begins a text; it is not put there again.
    assert (
        tiny_tokenizer().convert_tokens_to_ids("<|im_start|>") == engine(loaded(folder)).tok_encode(prompt)[0]
    )


@pytest.fixture
def read(monkeypatch) -> list[bool]:
    """Whether lm-eval's own tasks were to be read, each time; they are left out, since that takes long."""
    read: list[bool] = []

    def manager(include_path: str | None, include_defaults: bool) -> Any:
        read.append(include_defaults)
        return TaskManager(include_path=include_path, include_defaults=False)

    monkeypatch.setattr(bridge, "TaskManager", manager)
    return read


def test_files_are_tasks_and_the_tasks_of_lm_eval_are_read_where_they_are_needed(tasks_folder, read):
    path = str(tasks_folder / "cities.yaml")
    assert list(open_tasks(LmEvalConfig([path])).manager.load([path])["tasks"]) == ["cities"]
    assert open_tasks(LmEvalConfig(["places", "texts"], str(tasks_folder))).groups == {
        "places": ("cities", "towns")
    }
    assert read == [False, False]
    with pytest.raises(UserError, match=r"no task 'citiess' in lm-eval .* or in .*Did you mean 'cities'\?"):
        open_tasks(LmEvalConfig(["citiess"], str(tasks_folder)))
    assert read == [False, False, False, True]


def test_mistakes_are_named(folder, tmp_path, read):
    with pytest.raises(UserError, match=r"lm_eval_include_path: \./nowhere: there is no such folder"):
        open_tasks(LmEvalConfig(["x"], "./nowhere"))
    with pytest.raises(UserError, match=r"no task '\./nowhere\.yaml'"):
        open_tasks(LmEvalConfig(["./nowhere.yaml"]))
    write_task(tmp_path, "lost", [{"x": 1}], output_type="nothing_known")
    with pytest.raises(UserError, match=r"lost: lm-eval cannot load them: .*nothing_known"):
        open_tasks(LmEvalConfig(["lost"], str(tmp_path)))
    write_task(
        tmp_path, "code", [{"x": 1}], output_type="generate_until", unsafe_code=True,
        doc_to_text="x", doc_to_target="x", metric_list=metrics("exact_match"),
    )  # fmt: skip
    with pytest.raises(UserError, match="'code' runs code that a model wrote"):
        open_tasks(LmEvalConfig(["code"], str(tmp_path)))
    lm = engine(loaded(folder))
    with pytest.raises(UserError, match=r"a continuation has \d+ tokens, and the model was made for 96"):
        lm.loglikelihood(asked(("Hi", "lamp" * 300)))
    with pytest.raises(UserError, match="asks for 96 new tokens"):
        lm.generate_until(asked(("Hi", {"max_gen_toks": 96})))
    lm.tokenizer.eos_token = lm.tokenizer.bos_token = None
    with pytest.raises(UserError, match="names no token that ends or begins a text"):
        lm.loglikelihood(asked(("", "lamp")))


@pytest.mark.slow
def test_a_name_that_is_not_known_gets_the_nearest_one():
    with pytest.raises(UserError, match=r"no task 'hellaswagg' in lm-eval .*Did you mean 'hellaswag'\?"):
        open_tasks(LmEvalConfig(["hellaswagg"]))
