"""Rejection-sampling fine-tuning: sample, keep the best answers, learn from them, measure; round after round.

    sample      N answers to each prompt by the model as it is      round-K/samples.jsonl
    keep        the best, also as rankings and pairs                round-K/best.jsonl, …
    train       on the answers that were kept, as ``hf-align sft``  round-K/model/
    evaluate    one answer to each held-out prompt                  round-K/held_out.jsonl

Every step leaves a file and is done where that file is not whole, so that a run which was interrupted goes on
where it stopped without any other state. Source: Dong et al. 2023, arXiv 2304.06767. What this leaves out:
what a round reports (``metrics``), and the model that a round trains (``model``).
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_align.best_of_n.answers import (
    HELD_OUT_FILE,
    SCORED_ANSWERS_FILE,
    SampledPrompt,
    prompt_key,
    write_answers,
)
from hf_align.best_of_n.files import BEST_FILE, write_results
from hf_align.best_of_n.raft.model import build
from hf_align.best_of_n.recipe import BestOfNConfig
from hf_align.best_of_n.record import BestOfNRecord
from hf_align.best_of_n.run import make_sampler
from hf_align.best_of_n.sampling import Effort, Sampler, answer_all
from hf_align.config import ModelConfig, SamplesConfig, TrainingConfig
from hf_align.config.data import DataConfig, DatasetConfig
from hf_align.data.chat.prompts import Prompt
from hf_align.data.prepare import prepare_datasets
from hf_align.errors import UserError
from hf_align.modeling.weights_digest import model_digest
from hf_align.rewards.models import Rewards
from hf_align.runs import checkpoints, processes
from hf_align.runs import folder as run_folder
from hf_align.runs.memory import free_memory
from hf_align.runs.record import read_run
from hf_align.runs.schema import Record
from hf_align.runs.signals import StopRequest
from hf_align.saved_models.run_models import ModelSource, find_model, load_run_model
from hf_align.sft.recipe import SftConfig
from hf_align.training import stage
from hf_align.training.samples import SampleSet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

MODEL_FOLDER = "model"
_OF_THE_ROUND = (run_folder.RUN_FILE, "metrics.jsonl", "checkpoint-*", "*-checkpoint-*", ".*")
_ROOM_FOR_THE_END = 16
"""Tokens that a template may write behind an answer."""


@dataclass
class Rounds:
    """A run: what its rounds share, and its steps. Rounds are counted from 1; round 0 is the start.

    ``limit``: tokens that fit into the model, if known. ``effort``: what sampling took.
    """

    config: BestOfNConfig
    machine: stage.Machine
    source: ModelSource
    tokenizer: PreTrainedTokenizerBase
    rewards: Rewards
    prompts: list[Prompt]
    held_out: list[Prompt]
    limit: int | None
    record: run_folder.RunRecord
    effort: Effort = field(default_factory=Effort)
    _loaded: tuple[int, Any, Any] | None = None

    def folder(self, number: int) -> Path:
        """Where a round leaves its files; for 0 that of the run."""
        run = Path(self.config.training.output_dir)
        return run / f"round-{number}" if number else run

    def sample(self, number: int) -> list[SampledPrompt]:
        """N answers to each prompt, by the model before this round; then the data sets made of them."""
        options = self.config.best_of_n
        folder = self.folder(number)
        if self.machine.main:
            folder.mkdir(exist_ok=True)
        processes.wait_for_everyone()
        found = self._answers(
            self.prompts,
            folder / SCORED_ANSWERS_FILE,
            lambda: self._sampler(number - 1, seed=self._seed(number)),
            samples=options.num_generations,
            what=f"round {number}: sampling",
        )
        if self.machine.main and not self.trained(number):
            rows = write_results(folder, found, options)
            logger.info("round %d: %d answers kept", number, rows[BEST_FILE])
            if not rows[BEST_FILE]:
                raise UserError(_nothing_kept(number, found, options.min_reward))
        processes.wait_for_everyone()
        return found

    def evaluate(self, number: int) -> list[SampledPrompt]:
        """One answer to each held-out prompt, by the model after this round."""
        temperature = self.config.best_of_n.eval_temperature
        return self._answers(
            self.held_out,
            self.folder(number) / HELD_OUT_FILE,
            lambda: self._sampler(number, temperature=temperature, samples=1),
            samples=1,
            what=f"round {number}: held-out prompts" if number else "held-out prompts",
        )

    def train(self, number: int, stop: StopRequest) -> Record:
        """Learn from what was kept; returns the record of that training, a run of fine-tuning of its own."""
        place = self.folder(number) / MODEL_FOLDER
        if not self.trained(number):
            # Where the answers were there already, nobody has looked yet at the model that gave them.
            self._sampler(number - 1)
            self._unload()
            processes.on_main(lambda: _clear_unless_saved(place))
            self._fine_tune(number, place, stop)
            processes.wait_for_everyone()
            if self.machine.main:
                self._remove_what_is_done_with(number)
            processes.wait_for_everyone()
        return read_run(place)

    def trained(self, number: int) -> bool:
        """Whether the training of a round is complete."""
        place = self.folder(number) / MODEL_FOLDER
        done = (place / run_folder.RUN_FILE).is_file()
        return done and read_run(place).status == "completed"

    def copy_model(self, number: int) -> None:
        """Put the model of a round into the folder of the run."""
        if self.machine.main:
            kept = shutil.ignore_patterns(*_OF_THE_ROUND)
            made = self.folder(number) / MODEL_FOLDER
            shutil.copytree(made, self.folder(0), ignore=kept, dirs_exist_ok=True)
        processes.wait_for_everyone()

    def _answers(
        self,
        prompts: Sequence[Prompt],
        path: Path,
        sampler: Callable[[], Sampler],
        *,
        samples: int,
        what: str,
    ) -> list[SampledPrompt]:
        rows = self.config.best_of_n.generation_batch_size
        found = answer_all(
            prompts, path, sampler, samples=samples, max_rows=rows, effort=self.effort, what=what
        )
        answered = [found[prompt_key(prompt)] for prompt in prompts]
        if any(each.batch for each in answered):
            # Complete: in the order of the prompts, whoever sampled which of them and when.
            answered = [replace(each, batch="", batch_size=0) for each in answered]
            if self.machine.main:
                write_answers(path, answered)
            processes.wait_for_everyone()
        return answered

    def _sampler(self, number: int, **chosen: Any) -> Sampler:
        """The sampler with the model after round ``number``, which is loaded unless it is the last loaded."""
        if self._loaded is None or self._loaded[0] != number:
            self._unload()
            source = self._source(number)
            model, tokenizer = load_run_model(source, use_cpu=self.machine.use_cpu)
            self._check_weights(number, model)
            self._loaded = (number, model, tokenizer)
        _, model, tokenizer = self._loaded
        return make_sampler(self.config, model, tokenizer, self.rewards, **chosen)

    def _check_weights(self, number: int, model: Any) -> None:
        """Raise UserError where the model after round ``number`` is not the one that it was."""
        known = BestOfNRecord.of(self.record.content).model_digests
        found = model_digest(model)
        if known.get(str(number), found) != found:
            raise UserError(
                f"output_dir: what is in '{self.folder(0)}' cannot be gone on with: "
                f"{self._source(number).config.model_name_or_path} has other weights than it had. Choose "
                "another folder, or set resume: false to move that run aside"
            )
        self.record.update(BestOfNRecord(model_digests={**known, str(number): found}))

    def _source(self, number: int) -> ModelSource:
        """The model after round ``number``."""
        if number == 0:
            return self.source
        place = str(self.folder(number) / MODEL_FOLDER)
        changed: dict[str, Any] = {"model_name_or_path": place, "model_revision": None}
        settings: ModelConfig = replace(self.config.model, **changed, tokenizer_name_or_path=None)
        return find_model(settings, chosen=self.config.overrides, use_cpu=self.machine.use_cpu)

    def _seed(self, number: int) -> int:
        """Of what is drawn in a round: with the draws of the round before, a model that has changed little
        would give mostly the answers that it has learned from already. Held-out answers keep the run's seed,
        so that rounds can be compared."""
        return (self.config.training.seed + number - 1) % 2**32

    def _unload(self) -> None:
        self._loaded = None
        free_memory()

    def _fine_tune(self, number: int, place: Path, stop: StopRequest) -> None:
        config = self._recipe(number, place)
        data = prepare_datasets(config.data, self.tokenizer, seed=config.training.seed)
        current = stage.open_run("sft", config, self.machine, self.tokenizer, data)
        model, task = build(current, self._source(number - 1))
        trainer = stage.make_trainer(current, model, task, stop)
        samples = SampleSet(trainer.model, self.tokenizer, [], config.samples)
        stage.train(current, trainer, stop, samples=samples)
        self.record.update(BestOfNRecord(model=current.record.content.model))

    def _recipe(self, number: int, place: Path) -> SftConfig:
        """Fine-tuning on the answers of a round that were kept, which end as they were sampled."""
        own = self.config.training
        longest = max(len(prompt.ids) for prompt in self.prompts) + self.config.best_of_n.max_new_tokens
        room = longest + _ROOM_FOR_THE_END
        training = {
            **asdict(own),
            "output_dir": str(place),
            "seed": self._seed(number),
            "resume_from_checkpoint": "auto",
        }
        data: dict[str, Any] = {
            **{key: value for key, value in asdict(self.config.data).items() if key not in ("datasets",)},
            "datasets": [DatasetConfig(str(self.folder(number) / BEST_FILE), format="prompt_completion")],
            "eval_datasets": [],
            "eval_split_size": 0.0,
            "train_on": "last",
            "max_length": room if self.limit is None else min(room, self.limit),
            # Text that was sampled may come back as a few tokens more than it was.
            "overlong": "drop",
            "system_prompt": None,
            "dataset_cache": False,
        }
        return SftConfig(
            self.source.config,
            DataConfig(**data),
            self.config.adapter,
            TrainingConfig(**training),
            SamplesConfig(num_samples=0),
            recipe_path=self.config.recipe_path,
            overrides=self.config.overrides,
        )

    def _remove_what_is_done_with(self, number: int) -> None:
        """Checkpoints within the round, and the weights of rounds beyond those that are kept."""
        for checkpoint in checkpoints.all_checkpoints(self.folder(number) / MODEL_FOLDER):
            checkpoints.delete(checkpoint)
        limit = self.config.training.save_total_limit
        if limit is not None and number > limit:
            for weights in (self.folder(number - limit) / MODEL_FOLDER).glob("*.safetensors"):
                weights.unlink()


def _clear_unless_saved(place: Path) -> None:
    """Remove what a training left that was cut off before its first checkpoint."""
    if place.is_dir() and checkpoints.newest_complete(place) is None:
        shutil.rmtree(place)


def _nothing_kept(number: int, answered: Sequence[SampledPrompt], min_reward: float | None) -> str:
    best = max(max(each.scores) for each in answered)
    decided = sum(len(set(each.scores)) > 1 for each in answered)
    stopped = sum(sum(each.stopped) for each in answered)
    limit = "" if min_reward is None else f", min_reward is {min_reward:g}"
    return (
        f"round {number}: no answer can be learned from. The best reward is {best:.4g}{limit}; the answers "
        f"to {decided} of {len(answered)} prompts differ in reward, and {stopped} answers stopped by "
        "themselves. Lower min_reward, raise num_generations, temperature or max_new_tokens, or set "
        "keep_unfinished: true"
    )
