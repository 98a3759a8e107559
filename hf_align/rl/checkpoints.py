"""Checkpoints of a run, between two rollouts: everything that the next rollout depends on.

The files are those that a checkpoint of any stage has, so that the same rules say which one is complete
(``checkpoints``), and the value head. ``trainer_state.json`` comes last: without it, it is no checkpoint.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hf_align.errors import UserError
from hf_align.rewards.scaling import RunningMoments
from hf_align.rl.sharding import load_optimizer_state, optimizer_state, scatter_weights
from hf_align.rl.value_head import load_value, save_value
from hf_align.runs import checkpoints, processes
from hf_align.runs.checkpoint_digests import load_plain
from hf_align.runs.record import write_json

if TYPE_CHECKING:
    from hf_align.rl.models import PpoModels
    from hf_align.rl.update import UpdateTools

KEY = "ppo"
"""Where ``trainer_state.json`` keeps :class:`Progress`."""


@dataclass
class Progress:
    """How far a run is. ``rollouts``, ``episodes`` and ``tokens`` (sampled) so far, over all processes;
    ``seconds``: spent in rollouts and updates. ``kl_coef``: of the next rollout. ``moments``: of all scores.
    """

    rollouts: int = 0
    episodes: int = 0
    tokens: int = 0
    seconds: float = 0.0
    kl_coef: float = 0.0
    moments: RunningMoments = field(default_factory=RunningMoments)

    def to_dict(self) -> dict[str, Any]:
        return {
            **{item.name: getattr(self, item.name) for item in dataclasses.fields(self)},
            "moments": self.moments.to_dict(),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Progress:
        return cls(**{**content, "moments": RunningMoments.from_dict(content["moments"])})


def save_checkpoint(
    folder: Path,
    tools: UpdateTools,
    progress: Progress,
    *,
    identity: Mapping[str, Any],
    rewards: Mapping[str, str],
    watch: Mapping[str, Any],
) -> None:
    """Write ``folder`` whole; every process has to call this.

    ``identity``: of the run (``resume.run_identity``); ``rewards``: what each reward is, by name; ``watch``:
    what the watch has seen (``watch.actions``).
    """
    accelerator = tools.accelerator
    optimizer = optimizer_state(tools.optimizer)
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        save_policy(tools.models, folder)
        torch.save(optimizer, folder / "optimizer.pt")
        torch.save(tools.scheduler.state_dict(), folder / "scheduler.pt")
    processes.wait_for_everyone()
    torch.save(_random_states(), folder / _random_file(accelerator))
    processes.wait_for_everyone()
    if accelerator.is_local_main_process:
        checkpoints.flush(folder)
    processes.wait_for_everyone()
    if accelerator.is_main_process:
        state = {
            "global_step": progress.rollouts,
            "stateful_callbacks": {"RunIdentity": {"args": {}, "attributes": {"identity": dict(identity)}}},
            KEY: {"progress": progress.to_dict(), "rewards": dict(rewards), "watch": dict(watch)},
        }
        write_json(folder / checkpoints.STATE_FILE, state)
        checkpoints.flush(folder)
    processes.wait_for_everyone()


def save_policy(models: PpoModels, folder: Path) -> None:
    """The policy as any other model of its kind, and the value head beside it."""
    models.policy.save_pretrained(folder)
    save_value(models.module, folder)


def load_checkpoint(folder: Path, tools: UpdateTools, *, rewards: Mapping[str, str], force: bool) -> Progress:
    """Bring the run to where ``folder`` was written; every process has to call this.

    Raises UserError where it is no checkpoint of an RL run, or where a reward has changed without ``force``.
    """
    saved = checkpoints.read_state(folder).get(KEY)
    if not isinstance(saved, dict):
        raise UserError(
            f"{folder} is a checkpoint of another stage; expected one that `hf-align ppo` or `grpo` wrote"
        )
    changed = [name for name, what in rewards.items() if saved["rewards"].get(name) != what]
    if changed and not force:
        raise UserError(
            f"{folder} was trained on other rewards: {', '.join(changed)} has changed since. Continue it "
            "with its own rewards, start anew without resume_from_checkpoint, or set force_resume: true."
        )
    _load_weights(folder, tools.models.policy)
    load_value(tools.models.module, folder)
    scatter_weights(tools.models.module, tools.module)
    load_optimizer_state(tools.optimizer, load_plain(folder / "optimizer.pt"))
    tools.scheduler.load_state_dict(load_plain(folder / "scheduler.pt"))
    own = folder / _random_file(tools.accelerator)
    if own.is_file():  # with another number of processes, which force_resume allows, there may be none
        _set_random_states(load_plain(own))
    return Progress.from_dict(saved["progress"])


def _load_weights(folder: Path, policy: Any) -> None:
    if (folder / "adapter_model.safetensors").is_file():
        from hf_align.adapters.custom.files import is_own

        if is_own(folder):
            policy.load_adapter(folder, policy.active_adapter, is_trainable=True)
            return
        from peft import set_peft_model_state_dict
        from safetensors.torch import load_file

        set_peft_model_state_dict(policy, load_file(folder / "adapter_model.safetensors"))
        return
    from accelerate import load_checkpoint_in_model

    load_checkpoint_in_model(policy, str(folder))


def _random_file(accelerator: Any) -> str:
    if accelerator.num_processes == 1:
        return "rng_state.pth"
    return f"rng_state_{accelerator.process_index}.pth"


def _random_states() -> dict[str, Any]:
    """The states of every global generator, in plain types that load without running code.

    Nothing of PPO draws from them; rewards of the user's own may.
    """
    version, internal, gauss = random.getstate()
    numpy_state: Any = np.random.get_state(legacy=False)
    inner = numpy_state["state"]
    numpy_state = numpy_state | {"state": {"key": inner["key"].tolist(), "pos": int(inner["pos"])}}
    states = {"python": [version, list(internal), gauss], "numpy": numpy_state, "cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _set_random_states(states: Mapping[str, Any]) -> None:
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    inner = states["numpy"]["state"]
    key = np.array(inner["key"], dtype=np.uint32)
    np.random.set_state({**states["numpy"], "state": {"key": key, "pos": inner["pos"]}})
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
