"""Rollouts on a vLLM server: it is given the weights of the policy, and asked for answers.

A LoRA adapter is saved and loaded under a new name, so that nothing the server keeps of an earlier one is
used again; a model that is trained as a whole is saved and read anew. Both go through the run folder, which
the server has to be able to read. Log-probabilities are the server's; what is trained with are our own, which
are measured afterwards as for any other rollout. What this leaves out: requests (``client``).
"""

from __future__ import annotations

import logging
import secrets
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from hf_align.errors import UserError
from hf_align.rl.advantages import sampling_difference
from hf_align.rl.episodes import Episode, trees_of
from hf_align.rl.record import PpoRecord
from hf_align.rl.rollout import RolloutTools, measure_episodes
from hf_align.rl.vllm.client import Refused, ServedModel, VllmClient
from hf_align.runs import processes
from hf_align.sampling.options import Sampling

if TYPE_CHECKING:
    from hf_align.data.chat.prompts import Prompt
    from hf_align.rl.algorithms.options import RlOptionsConfig
    from hf_align.rl.models import PpoModels
    from hf_align.rl.prompts import RunPrompts
    from hf_align.rl.recipe import RlConfig
    from hf_align.sampling.batch import Continuation
    from hf_align.training.run import Run

logger = logging.getLogger(__name__)

FOLDER = "vllm"
"""Below the run folder: what the server reads."""
DIFFERENT = 0.5
"""Nats per token, in the mean, beyond which log-probabilities are not those of one model; with bfloat16 on
both sides they differ by about a tenth of it."""
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What ``--max-lora-rank`` takes."""
CHECKED_PROMPTS, CHECKED_TOKENS = 4, 16


@dataclass
class VllmServer:
    """A server that follows the policy. ``folder``: what it reads. ``command``: starts such a server.
    ``serving``: the name under which the policy can be asked; empty before it has its weights."""

    client: VllmClient
    served: ServedModel
    folder: Path
    command: str
    serving: str = ""
    _run: str = field(default_factory=lambda: secrets.token_hex(4))
    _updates: int = 0

    def follow(self, policy: Any) -> None:
        """Give the server the weights of ``policy``; every process has to call this.

        Raises UserError where the server refuses them.
        """
        self.serving = processes.on_main(lambda: self._update(policy))

    def _update(self, policy: Any) -> str:
        self._updates += 1
        try:
            if not hasattr(policy, "peft_config"):
                policy.save_pretrained(self.folder)
                self.client.reload_weights(self.folder)
                return self.served.name
            name = f"hf-align-{self._run}-{self._updates}"
            policy.save_pretrained(self.folder / name)
            self._forget()
            self.client.load_adapter(name, self.folder / name)
            return name
        except Refused as error:
            raise UserError(
                f"the vLLM server at {self.client.base_url} does not take the policy's weights from "
                f"{self.folder}: {error} (status {error.status}). It has to be able to read that folder, and "
                f"to be started with: {self.command}"
            ) from error

    def _forget(self) -> None:
        """Unload the adapter that the server has, and remove its files."""
        if self.serving:
            self.client.unload_adapter(self.serving)
            shutil.rmtree(self.folder / self.serving, ignore_errors=True)

    def sample(
        self,
        models: PpoModels,
        options: RlOptionsConfig,
        prompts: Sequence[tuple[int, Prompt]],
        *,
        samples: int,
        seed: Sequence[int],
    ) -> list[Continuation]:
        """``samples`` answers to each of the numbered ``prompts``, ordered by prompt.

        What is drawn for a prompt depends on ``seed`` and its number; to the bit also on how the server
        batches. Raises UserError where the server fails, or gives a token that the policy does not have.
        """
        # 31 bits, which every kind of generator takes; the server gives each sample of a prompt its own.
        seeds = [
            int(np.random.SeedSequence([*seed, number]).generate_state(1)[0] >> 1) for number, _ in prompts
        ]
        try:
            found = self.client.sample(
                self.serving,
                [prompt.ids for _, prompt in prompts],
                Sampling(options.max_new_tokens, options.temperature, options.top_p, options.top_k),
                stop_ids=models.stop_ids,
                seeds=seeds,
                samples=samples,
                in_flight=max(1, options.generation_batch_size // samples),
            )
        except Refused as error:
            raise UserError(
                f"the vLLM server at {self.client.base_url} refuses to answer for '{self.serving}': {error} "
                f"(status {error.status})"
            ) from error
        vocabulary = models.policy.config.get_text_config().vocab_size
        largest = max(int(one.tokens.max()) for one in found)
        if largest >= vocabulary:
            raise UserError(
                f"the vLLM server at {self.client.base_url} gave token {largest}, and the policy has "
                f"{vocabulary:,} tokens: it serves another model, '{self.served.root}'. Start one with: "
                f"{self.command}"
            )
        return found

    def close(self) -> None:
        """Take away what the run has left on the server, and in its folder; every process calls this."""
        processes.on_main(self._take_away)
        self.serving = ""

    def _take_away(self) -> None:
        try:
            if self.serving != self.served.name:
                self._forget()
        except (Refused, UserError) as error:
            logger.warning("the vLLM server keeps the adapter %s: %s", self.serving, error)
        shutil.rmtree(self.folder, ignore_errors=True)


def with_server(tools: RolloutTools, prompts: RunPrompts, run: Run) -> RolloutTools:
    """The ``tools`` of a run with the server of its recipe, or as they are; every process has to call this.

    Raises UserError where there is no server, where its context is too short for the prompts, and where it
    does not answer as the policy does. Run.json says what came of it.
    """
    config: RlConfig = run.config
    if not config.vllm.use_vllm:
        return tools
    server = _find(run, tools.models.policy)
    asked = [*prompts.training.values(), *prompts.held_out]
    needed = max(len(prompt.ids) for prompt in asked) + config.options.max_new_tokens
    key = config.options.length_key
    limit = server.served.max_length
    if limit is not None and limit < needed:
        raise UserError(
            f"{key}: the longest prompt and {config.options.max_new_tokens:,} more tokens are "
            f"{needed:,}, and the vLLM server takes {limit:,}. Start it with --max-model-len {needed} or "
            f"more, or lower {key}."
        )
    server.follow(tools.models.policy)
    difference, at_one = processes.on_main(
        lambda: _differences(tools, server, list(enumerate(asked))[:CHECKED_PROMPTS])
    )
    where = f"the vLLM server at {server.client.base_url}"
    if at_one < difference:
        raise UserError(
            f"temperature: {where} gives log-probabilities at temperature 1, and answers are sampled at "
            f"{config.options.temperature:g}. Start it with --logprobs-mode processed_logprobs: "
            f"{server.command}"
        )
    if not difference <= DIFFERENT:
        raise UserError(
            f"{where} does not answer as the policy does: log-probabilities of tokens that it sampled differ "
            f"by {difference:.2g} nats in the mean, and more than {DIFFERENT:g} is not rounding. It serves "
            f"'{server.served.root}'. Start one with: {server.command}"
        )
    facts = {
        "server": server.client.base_url,
        "model": server.served.root,
        "weights": "reloaded" if server.serving == server.served.name else "adapter",
        "logp_difference_at_start": difference,
    }
    run.record.update(PpoRecord(vllm=facts))
    return replace(tools, server=server)


def _find(run: Run, policy: Any) -> VllmServer:
    config: RlConfig = run.config
    command = serve_command(config, policy, precision=run.machine.precision)
    client = VllmClient(config.vllm.vllm_server_base_url, timeout=config.vllm.vllm_server_timeout)

    def ask() -> ServedModel:
        try:
            client.wait()
            return client.model()
        except UserError as error:
            raise UserError(f"{error}. Start one with: {command}") from error

    folder = Path(config.training.output_dir).resolve() / FOLDER
    if run.machine.main:
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    return VllmServer(client, processes.on_main(ask), folder, command)


def _differences(
    tools: RolloutTools, server: VllmServer, prompts: Sequence[tuple[int, Prompt]]
) -> tuple[float, float]:
    """Mean difference in nats between the server's log-probabilities and our own, at the temperature of
    sampling and at temperature 1."""
    options = _limited(tools.options)
    found = server.sample(tools.models, options, prompts, samples=1, seed=(0,))
    episodes = [Episode(prompts[one.prompt][0], one.tokens, one.logps, one.stopped, "") for one in found]
    means = []
    for temperature in (options.temperature, 1.0):
        here = replace(tools, options=replace(options, temperature=temperature))
        measure_episodes(here, trees_of(prompts, episodes))
        means.append(sampling_difference(episodes)[0])
    return means[0], means[1]


def _limited(options: RlOptionsConfig) -> RlOptionsConfig:
    """``options`` with short answers."""
    shorter = {options.length_key: min(CHECKED_TOKENS, options.max_new_tokens)}
    if options.soft_punish_cache is not None:  # of no use to short answers
        shorter["soft_punish_cache"] = None
    return replace(options, **shorter)


def serve_command(config: RlConfig, policy: Any, *, precision: str) -> str:
    """The shell command that starts a server for the recipe ``config``; ``policy`` as it is trained."""
    words = ["vllm", "serve", config.model.model_name_or_path]
    words += ["--dtype", {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}[precision]]
    if hasattr(policy, "peft_config"):
        setting = "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
        adapter = policy.peft_config[policy.active_adapter]
        largest = max([adapter.r, *adapter.rank_pattern.values()])
        rank = next((rank for rank in RANKS if rank >= largest), largest)
        words += ["--enable-lora", "--max-lora-rank", str(rank)]
    else:
        setting = "VLLM_SERVER_DEV_MODE=1"
    if config.options.temperature != 1:
        words += ["--logprobs-mode", "processed_logprobs"]
    if (port := urlsplit(config.vllm.vllm_server_base_url).port) not in (None, 8000):
        words += ["--port", str(port)]
    return f"{setting} {shlex.join(words)}"
