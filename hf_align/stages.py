"""The stages: commands with a room of their own, and the modules that hold their parts.

Names only: a module is imported when something of it is asked for, so that ``--help`` loads no heavy
library. Whoever knows every stage (the command line, pipelines, reports, model cards) reads this table, and
nothing else imports a capability that it is not built on.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Stage:
    """Where the parts of one command live.

    ``command``: the module with ``main(argv=None)``. ``recipe``, ``record``: ``module:class``; the record
    says what its run.json holds. ``report``, ``card``: ``module:object``, what it adds to ``report.html`` (a
    ``ReportPart``) and to the model card (a ``CardPart``), if anything. ``part``: the name of its section in
    reports and notebooks. ``in_pipelines``: whether it can be an entry of a pipeline's ``stages``.
    """

    command: str
    recipe: str
    record: str = "hf_align.runs.schema:Record"
    report: str | None = None
    part: str | None = None
    card: str | None = None
    in_pipelines: bool = True


STAGES: dict[str, Stage] = {
    "corpus": Stage(
        command="hf_align.corpus.command",
        recipe="hf_align.corpus.recipe:CorpusConfig",
        record="hf_align.corpus.record:CorpusRecord",
        report="hf_align.corpus.report:REPORT",
        part="corpus",
        card="hf_align.corpus.card:CARD",
    ),
    "tokenizer": Stage(
        command="hf_align.tokenization.command",
        recipe="hf_align.tokenization.recipe:TokenizerConfig",
        record="hf_align.tokenization.record:TokenizerRecord",
        report="hf_align.tokenization.report:REPORT",
        part="tokenizer",
        card="hf_align.tokenization.card:CARD",
    ),
    "pretrain": Stage(
        command="hf_align.pretraining.command",
        recipe="hf_align.pretraining.recipe:PretrainConfig",
        record="hf_align.pretraining.record:PretrainRecord",
        report="hf_align.pretraining.report:REPORT",
        part="pretraining",
        card="hf_align.pretraining.card:CARD",
    ),
    "classify": Stage(
        command="hf_align.classify.command",
        recipe="hf_align.classify.recipe:ClassifyConfig",
        record="hf_align.classify.record:ClassifyRecord",
        report="hf_align.classify.report:REPORT",
        part="classification",
        card="hf_align.classify.card:CARD",
    ),
    "sft": Stage(
        command="hf_align.sft.command",
        recipe="hf_align.sft.recipe:SftConfig",
        card="hf_align.sft.card:CARD",
    ),
    "merge": Stage(
        command="hf_align.commands.merge",
        recipe="hf_align.commands.merge_recipe:MergeConfig",
    ),
    "reward": Stage(
        command="hf_align.reward_model.command",
        recipe="hf_align.reward_model.recipe:RewardConfig",
        record="hf_align.saved_models.reward_record:RewardRecord",
        report="hf_align.reward_model.report:REPORT",
        part="reward",
        card="hf_align.reward_model.card:CARD",
    ),
    "dpo": Stage(
        command="hf_align.preference.command",
        recipe="hf_align.preference.recipe:DpoConfig",
        record="hf_align.preference.record:DpoRecord",
        report="hf_align.preference.report:REPORT",
        part="preferences",
        card="hf_align.preference.card:CARD",
    ),
    "kto": Stage(
        command="hf_align.kto.command",
        recipe="hf_align.kto.recipe:KtoConfig",
        record="hf_align.kto.record:KtoRecord",
        report="hf_align.kto.report:REPORT",
        part="kto",
        card="hf_align.kto.card:CARD",
    ),
    "ppo": Stage(
        command="hf_align.rl.command",
        recipe="hf_align.rl.recipe:PpoConfig",
        record="hf_align.rl.record:PpoRecord",
        report="hf_align.rl.report:REPORT",
        part="ppo",
        card="hf_align.rl.report:CARD",
    ),
    "grpo": Stage(
        command="hf_align.rl.grpo.command",
        recipe="hf_align.rl.grpo.recipe:GrpoConfig",
        record="hf_align.rl.record:PpoRecord",
        report="hf_align.rl.report:GRPO_REPORT",
        part="grpo",
        card="hf_align.rl.report:GRPO_CARD",
    ),
    "best-of-n": Stage(
        command="hf_align.best_of_n.command",
        recipe="hf_align.best_of_n.recipe:BestOfNConfig",
        record="hf_align.best_of_n.record:BestOfNRecord",
        report="hf_align.best_of_n.report:REPORT",
        part="best_of_n",
        card="hf_align.best_of_n.card:CARD",
    ),
    "evaluate": Stage(
        command="hf_align.evaluation.command",
        recipe="hf_align.evaluation.recipe:EvaluateConfig",
        record="hf_align.evaluation.record:EvaluateRecord",
        report="hf_align.evaluation.report:REPORT",
        part="evaluation",
    ),
    "pipeline": Stage(
        command="hf_align.pipeline.command",
        recipe="hf_align.pipeline.recipe:PipelineConfig",
        record="hf_align.pipeline.state:PipelineRecord",
        report="hf_align.pipeline.report:REPORT",
        part="pipeline",
        card="hf_align.pipeline.card:CARD",
        in_pipelines=False,
    ),
}

COMMANDS: dict[str, str] = dict(
    sorted(
        {
            **{name: stage.command for name, stage in STAGES.items()},
            **{name: f"hf_align.commands.{name}" for name in ("chat", "inspect", "report")},
        }.items()
    )
)
"""The module of every command."""

PIPELINE_COMMANDS = tuple(name for name, stage in STAGES.items() if stage.in_pipelines)


def load(name: str) -> Any:
    """What ``module:object`` names, or the module ``module``."""
    module, _, attribute = name.partition(":")
    loaded = importlib.import_module(module)
    return getattr(loaded, attribute) if attribute else loaded


def recipe_class(command: str) -> Any:
    """The dataclass of a command's recipe. Raises KeyError for a command that is no stage."""
    return load(STAGES[command].recipe)


def part_of(command: object, kind: str) -> Any:
    """The ``report`` or ``card`` of a command, or None where it has none of its own."""
    stage = STAGES.get(str(command))
    name = getattr(stage, kind, None)
    return load(name) if name else None
