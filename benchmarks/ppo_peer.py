"""PPO by TRL 1.12, the last release that has it: its installation beside the newer one, and one run of it.

The settings that both sides of the benchmark have in common are here as well.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROLLOUT, NEW_TOKENS, PASSES, RANK, TEMPERATURE = 16, 64, 4, 16, 0.7
LEARNING_RATE, ADAM_EPSILON, KL_COEF = 3e-5, 1e-5, 0.05
TRL, TRL_FOLDER = "1.12.0", Path(__file__).resolve().parent / ".trl-1.12"
PROMPTS, REWARD = "prompts.jsonl", "reward"


def install_trl() -> None:
    """Put TRL's last release with PPO into ``TRL_FOLDER``, without what it needs: that is here already."""
    if (TRL_FOLDER / f"trl-{TRL}.dist-info").is_dir():
        return
    print(f"installing trl=={TRL} into {TRL_FOLDER}", flush=True)
    with tempfile.TemporaryDirectory(dir=TRL_FOLDER.parent, prefix=".trl-installing-") as part:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        target = Path(part) / "packages"
        done = subprocess.run([*command, "--no-deps", "--target", str(target), f"trl=={TRL}"])
        if done.returncode:
            raise SystemExit(
                f"trl=={TRL} could not be installed; the benchmark needs the network for it once"
            )
        target.rename(TRL_FOLDER)


def run_trl(
    folder: Path, options: argparse.Namespace, precision: str, *, tuned: bool = True
) -> dict[str, Any]:
    """TRL's trainer, timed. ``tuned``: as fast as it can be made; otherwise by its defaults.

    Its rollout computes in the type of the weights. Its update computes in bf16 only under the environment
    variable ``ACCELERATE_MIXED_PRECISION``, which the caller sets for the tuned one.
    """
    import torch
    import trl
    from datasets import Dataset
    from peft import LoraConfig, inject_adapter_in_model
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
    from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

    if trl.__version__ != TRL:
        raise SystemExit(f"expected trl {TRL} from {TRL_FOLDER}, found {trl.__version__} in {trl.__file__}")
    dtype = torch.bfloat16 if precision == "bf16" and tuned else torch.float32
    tokenizer = AutoTokenizer.from_pretrained(options.model, padding_side="left")
    # TRL hides whatever is the pad token, also where a template writes it. It never looks the new one up.
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    adapter = {"r": RANK, "lora_alpha": 2 * RANK, "target_modules": "all-linear"}
    policy = AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype)
    value, reward = (
        AutoModelForSequenceClassification.from_pretrained(folder / REWARD, num_labels=1, dtype=dtype)
        for _ in range(2)
    )
    torch.manual_seed(0)
    # In place, since TRL looks for the trunk and the head by name.
    if tuned:
        inject_adapter_in_model(LoraConfig(**adapter, task_type="SEQ_CLS"), value)
        value.score.requires_grad_(True)
    rows = json.loads((folder / "prompt_ids.json").read_text(encoding="utf-8"))
    config = PPOConfig(
        output_dir=str(folder / f"trl-{os.getpid()}"),
        total_episodes=options.episodes,
        per_device_train_batch_size=ROLLOUT // options.accumulate,
        gradient_accumulation_steps=options.accumulate,
        local_rollout_forward_batch_size=ROLLOUT,
        response_length=NEW_TOKENS,
        num_ppo_epochs=PASSES,
        num_mini_batches=1,
        temperature=TEMPERATURE,
        kl_coef=KL_COEF,
        learning_rate=LEARNING_RATE,
        adam_epsilon=ADAM_EPSILON,
        lr_scheduler_type="constant",
        stop_token="eos",
        num_sample_generations=0,
        bf16=precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **({"optim": "adamw_torch_fused", "gradient_checkpointing": False} if tuned else {}),
    )
    trainer = PPOTrainer(
        args=config,
        processing_class=tokenizer,
        model=policy,
        ref_model=None,
        reward_model=reward,
        value_model=value,
        train_dataset=Dataset.from_list([{"input_ids": ids} for ids in rows]),
        peft_config=LoraConfig(**adapter, task_type="CAUSAL_LM"),
    )
    trained = {name: p.numel() for name, p in trainer.model.named_parameters() if p.requires_grad}

    sampled: list[int] = []
    computed: list[int] = []
    sampling: list[float] = []
    generate = ppo_trainer.batch_generation

    def counted(model: Any, queries: Any, *arguments: Any) -> Any:
        begun = time.perf_counter()
        found = generate(model, queries, *arguments)
        sampling.append(time.perf_counter() - begun)
        answers = found[0][:, queries.shape[1] :]
        # Behind the first end token there is only padding.
        sampled.append(int(((answers == tokenizer.eos_token_id).cumsum(1).cumsum(1) <= 1).sum()))
        computed.append(answers.numel())
        return found

    ppo_trainer.batch_generation = counted
    begun, processor = time.perf_counter(), time.process_time()
    trainer.train()
    seconds = time.perf_counter() - begun
    return {
        "seconds": seconds,
        "processor_seconds": time.process_time() - processor,
        "phase_seconds": {"sample": sum(sampling), "rest": seconds - sum(sampling)},
        "prompts_asked": rows,
        "tokens_sampled": sum(sampled),
        "tokens_computed": sum(computed),
        "mixed_precision": trainer.accelerator.mixed_precision,
        "trained_parameters": sum(trained.values()),
        "rollouts": [entry for entry in trainer.state.log_history if "objective/kl" in entry],
    }
