"""Everything a recipe asks for, measured on one model after the other; results by kind, task and model.

Models are loaded one at a time. What each of them answers to the same items is kept until the end, so that
differences between models get an interval of their own, which is narrower than those of the two metrics.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hf_align.config.group import with_home
from hf_align.config.local_paths import check_local
from hf_align.config.model import ModelConfig
from hf_align.data.reading.sources import local_files
from hf_align.errors import UserError
from hf_align.evaluation.answering import check_task
from hf_align.evaluation.choices.files import Subject, read_task
from hf_align.evaluation.judging.answer_comparison import compare_answers
from hf_align.evaluation.judging.answer_rewards import score_answers
from hf_align.evaluation.lm_eval.metrics import open_tasks
from hf_align.evaluation.measured import Evaluation, ModelEvaluation, named_datasets, task_names
from hf_align.evaluation.recipe import EvaluateConfig
from hf_align.evaluation.recipe_entries import EvaluatedModel
from hf_align.evaluation.results import with_differences
from hf_align.evaluation.scoring import make_scorer
from hf_align.modeling.precision import runs_on_cpu
from hf_align.rewards.models import load_reward_function
from hf_align.runs.memory import free_memory
from hf_align.sampling.options import context_length
from hf_align.saved_models.reward_scoring import load_reward_model
from hf_align.saved_models.run_models import ModelSource, find_model, load_run_model


def evaluate(config: EvaluateConfig, *, finished: Callable[[Evaluation], None] | None = None) -> Evaluation:
    """Measure every model of ``config``; ``finished`` is called after each of them.

    Raises UserError where a model or a data set cannot be read. Questions, and tasks of lm-eval, are read
    before any model is loaded; see :func:`check_inputs` for the rest.
    """
    use_cpu = runs_on_cpu(config.evaluation.use_cpu)
    tasks = read_choice_tasks(config)
    lm_eval_tasks = open_tasks(config.lm_eval)
    sources = [
        (name, _find(config, entry, use_cpu))
        for name, entry in zip(config.models.names, config.models.entries, strict=True)
    ]
    check_sources(config, sources)
    evaluation = Evaluation()
    for name, source in sources:
        started = time.perf_counter()
        if is_reward_source(source):
            facts = _evaluate_reward_model(config, name, source, evaluation, use_cpu)
        else:
            facts = _evaluate_language_model(config, name, source, tasks, lm_eval_tasks, evaluation, use_cpu)
        evaluation.models.append({**facts, "seconds": round(time.perf_counter() - started, 1)})
        free_memory()
        if finished is not None:
            finished(evaluation)
    score_answers(config, evaluation, use_cpu=use_cpu)
    compare_answers(config, evaluation, use_cpu=use_cpu)
    with_differences(evaluation.results, evaluation.items, config.models.names, seed=config.evaluation.seed)
    return evaluation


def check_inputs(config: EvaluateConfig) -> None:
    """Raise UserError for what would otherwise show after hours: a path that leads nowhere, two entries of
    one name, a pattern or a check that cannot be read, a package that is missing, a reward that cannot be
    loaded.

    Functions of the user are loaded, which runs their files.
    """
    options = config.preferences
    for entry in config.models.entries:
        check_local("models", entry.path)
    read_choice_tasks(config)
    for key, datasets in (
        ("perplexity_datasets", config.perplexity.perplexity_datasets),
        ("preference_datasets", options.preference_datasets),
    ):
        for _, dataset in named_datasets(key, datasets):
            local_files(dataset)
    tasks = config.generations.generation_tasks
    task_names("generation_tasks", [(task.name, task.path) for task in tasks])
    for task in tasks:
        check_task(task)
        for path in filter(None, (task.path, task.dev_path)):
            local_files(task.dataset(path))
    for key, path in (
        *(("reward_model", path) for path in options.reward_model),
        *([("judge_reward_model", options.judge_reward_model)] if options.judge_reward_model else []),
    ):
        check_local(key, with_home(path))
    for name in options.reward_functions:
        load_reward_function(name, options.reward_options.get(name, {}))


def is_reward_source(source: ModelSource) -> bool:
    """Whether what is to be loaded is a reward model."""
    if source.adapter is not None:
        return _read_settings(source.adapter / "adapter_config.json").get("task_type") == "SEQ_CLS"
    listed = _read_settings(Path(source.config.model_name_or_path) / "config.json").get("architectures")
    names = listed if isinstance(listed, list) else []
    return any(str(name).endswith("ForSequenceClassification") for name in names)


def _read_settings(file: Path) -> dict[str, Any]:
    """What a file of settings holds; nothing for one that is not there, as of a name on the hub, or that is
    broken: whoever loads the model says so."""
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def check_sources(config: EvaluateConfig, sources: Sequence[tuple[str, ModelSource]]) -> None:
    """Raise UserError where a reward model has nothing to be measured on, or is to be the first of
    answers."""
    rewards = [name for name, source in sources if is_reward_source(source)]
    if rewards and not config.preferences.preference_datasets:
        raise UserError(f"models: '{rewards[0]}' is a reward model, which needs preference_datasets")
    others = [name for name, _ in sources if name not in rewards]
    judged = config.preferences.judge_url or config.preferences.judge_reward_model
    if judged and len(others) < 2:
        raise UserError("models: expected two language models at least, whose answers a judge compares")


def _evaluate_language_model(
    config: EvaluateConfig,
    name: str,
    source: ModelSource,
    tasks: dict[str, list[Subject]],
    lm_eval_tasks: Any,
    evaluation: Evaluation,
    use_cpu: bool,
) -> dict[str, Any]:
    model, tokenizer = load_run_model(source, use_cpu=use_cpu)
    scorer = make_scorer(
        model,
        tokenizer,
        precision=source.precision,
        packing=config.evaluation.packing,
        max_tokens=config.evaluation.max_tokens_per_batch,
    )
    measured = ModelEvaluation(config, name, source, evaluation)
    measured.perplexities(scorer)
    measured.choices(scorer, tasks)
    measured.lm_eval_tasks(scorer, lm_eval_tasks)
    measured.generations(scorer)
    measured.likelihoods(scorer)
    layout = "shared prompts" if scorer.shared else "packed" if scorer.packed else "padded"
    return _facts(name, source, model, tokenizer, layout)


def _evaluate_reward_model(
    config: EvaluateConfig, name: str, source: ModelSource, evaluation: Evaluation, use_cpu: bool
) -> dict[str, Any]:
    path = str(source.adapter or source.config.model_name_or_path)
    reward = load_reward_model(
        path,
        base=source.config.model_name_or_path if source.adapter else None,
        packing=config.evaluation.packing,
        dtype=config.models.dtype,
        use_cpu=use_cpu,
        trust_remote_code=config.models.trust_remote_code,
    )
    ModelEvaluation(config, name, source, evaluation).rewards(reward)
    layout = "shared prompts" if reward.shared else "packed" if reward.packed else "padded"
    return _facts(name, source, reward.model, reward.tokenizer, layout)


def read_choice_tasks(config: EvaluateConfig) -> dict[str, list[Subject]]:
    """The subjects of each task by its name. Raises UserError where a file cannot be read."""
    needs_shots = config.choices.num_fewshot > 0
    entries = config.choices.choice_tasks
    names = task_names("choice_tasks", [(entry.name, entry.path) for entry in entries])
    return {
        name: read_task(entry, needs_shots=needs_shots) for name, entry in zip(names, entries, strict=True)
    }


def _find(config: EvaluateConfig, entry: EvaluatedModel, use_cpu: bool) -> ModelSource:
    given = config.models
    wanted = ModelConfig(
        entry.path,
        tokenizer_name_or_path=entry.tokenizer_name_or_path,
        chat_template_path=entry.chat_template_path,
        trust_remote_code=given.trust_remote_code,
        dtype=given.dtype,
        load_in_4bit=given.load_in_4bit,
        load_in_8bit=given.load_in_8bit,
    )
    chosen = () if given.dtype == "auto" else ("dtype",)
    return find_model(wanted, base=entry.base_model, chosen=chosen, use_cpu=use_cpu)


def _facts(name: str, source: ModelSource, model: Any, tokenizer: Any, layout: str) -> dict[str, Any]:
    return {
        "name": name,
        "path": str(source.adapter or source.config.model_name_or_path),
        "class": type(getattr(model, "get_base_model", lambda: model)()).__name__,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "precision": source.precision,
        "quantization": source.quantization,
        "layout": layout,
        "context": context_length(model, tokenizer),
    }
