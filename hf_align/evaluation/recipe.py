"""The recipe of an evaluation: which models, measured on what, side by side.

A kind of measurement runs where the recipe names data for it: texts, choice tasks, tasks of lm-eval,
generation tasks, compared answers. How many of them there are is up to the recipe; each entry may have a name
of its own for the tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import ClassVar, Literal

from hf_align.config import shared
from hf_align.config.addresses import check_address
from hf_align.config.data import DatasetConfig
from hf_align.config.fields import option
from hf_align.config.group import Group, KeyProblem, Recipe, with_home
from hf_align.config.loader import load_config
from hf_align.evaluation.recipe_entries import ChoiceTask, EvaluatedModel, GenerationTask
from hf_align.rewards.recipe import RewardsConfig

_DATA = ("perplexity_datasets", "choice_tasks", "lm_eval_tasks", "generation_tasks", "preference_datasets")


@dataclass(frozen=True)
class ModelsConfig(Group):
    """The models that are measured, and how they are loaded."""

    title: ClassVar[str] = "Models"

    model_name_or_path: str | None = option(
        None,
        help="a model, an adapter or a run folder; on the command line it may be given several times",
        non_empty=True,
    )
    models: list[EvaluatedModel] = option(
        factory=list,
        help="several models side by side: paths, or mappings as described at the end; differences are taken "
        "from the first",
        one_or_list=True,
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "float32",
        help="number format of the weights and of the computation; in 16 bits metrics change by rounding "
        "with the batch. auto: as it was trained",
    )
    load_in_4bit: bool = option(False, help="hold the weights in 4 bits (bitsandbytes)")
    load_in_8bit: bool = option(False, help="hold the weights in 8 bits (LLM.int8, bitsandbytes)")
    trust_remote_code: bool = shared.trust_remote_code()

    def check(self) -> None:
        object.__setattr__(self, "model_name_or_path", with_home(self.model_name_or_path))
        if (self.model_name_or_path is None) == (not self.models):
            found = "neither" if not self.models else "both"
            raise KeyProblem(
                ("model_name_or_path", "models"),
                f"found {found}; expected one model in model_name_or_path, or several in models.",
            )
        if self.load_in_4bit and self.load_in_8bit:
            raise KeyProblem(("load_in_4bit", "load_in_8bit"), "only one of the two can be true.")
        names = self.names
        for name in names:
            if names.count(name) > 1:
                raise KeyProblem(("models",), f"two models are called {name!r}; give each a name of its own.")

    @property
    def entries(self) -> list[EvaluatedModel]:
        """All models, however they were given."""
        return self.models or [EvaluatedModel(str(self.model_name_or_path))]

    @property
    def names(self) -> list[str]:
        """A name for each model: its own, else as much of its path's end as tells it from the others."""
        entries = self.entries
        for parts in range(1, 2 + max(len(PurePath(entry.path).parts) for entry in entries)):
            names = [
                entry.name or "/".join(PurePath(entry.path).parts[-parts:]) or entry.path for entry in entries
            ]
            if len(set(names)) == len(names):
                break
        return names


@dataclass(frozen=True)
class EvaluationConfig(Group):
    """Where results go, and how much is computed at once."""

    title: ClassVar[str] = "Evaluation"

    output_dir: str = shared.output_dir("runs/evaluate", help="folder for evaluation.json and the report")
    max_tokens_per_batch: int = option(4096, ge=1, help="tokens computed at once", changes="rounding")
    packing: bool = option(
        True, help="concatenate sequences instead of padding them, where the model can", changes="rounding"
    )
    seed: int = option(42, ge=0, help="seed of random draws and of bootstrap intervals")
    use_cpu: bool = shared.use_cpu()

    def check(self) -> None:
        object.__setattr__(self, "output_dir", with_home(self.output_dir))


@dataclass(frozen=True)
class PerplexityConfig(Group):
    """Perplexity, bits per character and bits per byte."""

    title: ClassVar[str] = "Perplexity"

    perplexity_datasets: list[DatasetConfig] = option(
        factory=list,
        help="texts, or rows with answers, of which then the answers are scored: paths, or mappings as "
        "described at the end",
        one_or_list=True,
    )
    max_length: int = option(
        1024, ge=2, help="tokens that the model sees at once, where its context is not shorter"
    )
    stride: int | None = option(
        None, ge=1, help="tokens scored by each window of a longer text after the first; null: half of it"
    )

    def check(self) -> None:
        if self.stride is not None and self.stride >= self.max_length:
            raise KeyProblem(
                ("stride", "max_length"),
                f"found a stride of {self.stride} with windows of {self.max_length} tokens; expected less, "
                "so "
                "that every token has some context.",
            )


@dataclass(frozen=True)
class ChoicesConfig(Group):
    """Multiple choice by log-likelihood."""

    title: ClassVar[str] = "Multiple choice"

    choice_tasks: list[ChoiceTask] = option(
        factory=list,
        help="files of MMLU, C-Eval or BIG-bench: paths, or mappings as described at the end",
        one_or_list=True,
    )
    num_fewshot: int = option(
        0, ge=0, help="solved examples before each question; fewer where they do not fit into the context"
    )


@dataclass(frozen=True)
class LmEvalConfig(Group):
    """Tasks of lm-eval, scored by its own code. Names are its own, behind ``lm_eval_``."""

    title: ClassVar[str] = "lm-eval tasks"

    lm_eval_tasks: list[str] = option(
        factory=list,
        help="names of tasks or groups of lm-eval, or YAML files with one; they need lm-eval: "
        "pip install 'hf_align[lm-eval]'",
        one_or_list=True,
    )
    lm_eval_include_path: str | None = option(
        None, help="folder with task files of your own, whose names may then be given", non_empty=True
    )
    lm_eval_num_fewshot: int | None = option(
        None, ge=0, help="solved examples before each question; null: as each task says"
    )
    lm_eval_limit: int | None = option(None, ge=1, help="use the first documents of each task only")
    lm_eval_apply_chat_template: bool = option(
        False, help="put prompts into the chat template; lm-eval shows them as plain text otherwise"
    )

    def check(self) -> None:
        object.__setattr__(self, "lm_eval_include_path", with_home(self.lm_eval_include_path))
        if self.lm_eval_tasks:
            return
        for key in ("include_path", "num_fewshot", "limit", "apply_chat_template"):
            given = getattr(self, f"lm_eval_{key}")
            if given is not None and given is not False:
                raise KeyProblem(
                    (f"lm_eval_{key}",), "this has no effect without lm_eval_tasks; name some, or remove it."
                )


@dataclass(frozen=True)
class GenerationsConfig(Group):
    """How answers are written. Names are those of the other stages that sample."""

    title: ClassVar[str] = "Generation"

    generation_tasks: list[GenerationTask] = option(
        factory=list,
        help="rows with a prompt and an answer, and what is measured of the model's own: paths, or "
        "mappings as "
        "described at the end",
        one_or_list=True,
    )
    max_new_tokens: int = option(256, ge=1, help="longest answer in tokens")
    temperature: float = option(
        0.0, ge=0, help="sampling temperature; 0: always the likeliest token. Self-consistency needs more"
    )
    top_p: float = shared.top_p()
    top_k: int = shared.top_k()
    generation_batch_size: int = option(32, ge=1, help="answers written at once", changes="rounding")

    def check(self) -> None:
        sampled = [task for task in self.generation_tasks if task.num_samples > 1]
        if sampled and not self.temperature:
            raise KeyProblem(
                ("temperature", "generation_tasks"),
                f"{sampled[0].path} asks for {sampled[0].num_samples} samples, which are all the same at "
                "temperature 0; set it to 0.7, for example.",
            )


@dataclass(frozen=True)
class PreferencesConfig(Group):
    """Compared answers, and who compares those of the models."""

    title: ClassVar[str] = "Preferences"

    preference_datasets: list[DatasetConfig] = option(
        factory=list,
        help="compared answers: whether reward models, or the likelihoods of language models, order them "
        "alike",
        one_or_list=True,
    )
    reward_functions: list[str] = option(
        factory=list,
        help="Python functions that score the answers to generation_tasks, each as file.py:name, as in ppo. "
        "The file is run: it can do anything that you can. Or rewards that come with hf_align, as there",
        one_or_list=True,
        changes="inputs",
    )
    reward_options: dict[str, dict[str, str | bool | int | float | list[str]]] = option(
        factory=dict, help="what the rewards that come with hf_align take, by their name, as in ppo"
    )
    reward_model: list[str] = option(
        factory=list,
        help="reward models that score the answers to generation_tasks",
        one_or_list=True,
        changes="inputs",
    )
    judge_reward_model: str | None = option(
        None,
        help="a reward model that compares the answers of the models in generation_tasks with the first "
        "one's",
        non_empty=True,
    )
    judge_url: str | None = option(
        None,
        help="address of an OpenAI-compatible service whose model compares them, such as "
        "http://localhost:8000/v1; the key, if it needs one, is read from OPENAI_API_KEY",
        non_empty=True,
    )
    judge_model: str | None = option(None, help="name of the judge at judge_url", non_empty=True)
    judge_requests: int = option(4, ge=1, help="requests sent to judge_url at a time", changes="speed")
    judge_temperature: float | None = option(
        0.0, ge=0, help="temperature of the judge; null leaves it out, for models that take none"
    )
    judge_parameters: dict[str, str | bool | int | float] = option(
        factory=dict, help="more entries of every request to the judge, such as {max_tokens: 500}", text=True
    )

    def check(self) -> None:
        object.__setattr__(self, "judge_reward_model", with_home(self.judge_reward_model))
        if self.reward_functions or self.reward_model:
            # Its checks are those of every stage that scores answers.
            RewardsConfig(
                reward_model=self.reward_model,
                reward_functions=self.reward_functions,
                reward_options=self.reward_options,
            )
        if (self.judge_url is None) != (self.judge_model is None):
            raise KeyProblem(("judge_url", "judge_model"), "each of the two needs the other.")
        if self.judge_url is not None:
            check_address("judge_url", self.judge_url, example="http://localhost:8000/v1")


@dataclass(frozen=True)
class EvaluateConfig(Recipe):
    """Models measured side by side."""

    models: ModelsConfig
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    perplexity: PerplexityConfig = field(default_factory=PerplexityConfig)
    choices: ChoicesConfig = field(default_factory=ChoicesConfig)
    lm_eval: LmEvalConfig = field(default_factory=LmEvalConfig)
    generations: GenerationsConfig = field(default_factory=GenerationsConfig)
    preferences: PreferencesConfig = field(default_factory=PreferencesConfig)

    def check(self) -> None:
        flat = self.to_flat()
        if not any(flat[key] for key in _DATA):
            raise KeyProblem(_DATA, "there is nothing to measure; give data for at least one of these.")
        for key in ("reward_functions", "reward_model"):
            if flat[key] and not flat["generation_tasks"]:
                raise KeyProblem((key,), "this has no effect without generation_tasks; remove it.")
        judges = [key for key in ("judge_reward_model", "judge_url") if flat[key] is not None]
        for key in judges:
            if not flat["generation_tasks"] or len(self.models.entries) < 2:
                raise KeyProblem(
                    (key,), "this has no effect without generation_tasks and two models at least; remove it."
                )


def parse_evaluate(argv: Sequence[str] | None = None) -> EvaluateConfig:
    """The recipe from ``--config RECIPE.yaml --key value …``; see :func:`load_config`."""
    return load_config(EvaluateConfig, argv, command="evaluate")
