"""Every YAML file under recipes/ is read by the parser of what it is for."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hf_align.best_of_n.recipe import parse_best_of_n
from hf_align.classify.recipe import parse_classify
from hf_align.corpus.recipe import parse_corpus
from hf_align.evaluation.recipe import parse_evaluate
from hf_align.kto.recipe import parse_kto
from hf_align.preference.recipe import parse_dpo
from hf_align.pretraining.recipe import parse_pretrain
from hf_align.reward_model.recipe import parse_reward
from hf_align.rl.grpo.recipe import parse_grpo
from hf_align.rl.recipe import parse_ppo
from hf_align.sft.recipe import parse_sft
from hf_align.tokenization.recipe import parse_tokenizer

ROOT = Path(__file__).parent.parent
RECIPES = sorted(
    path.relative_to(ROOT) for pattern in ("*.yaml", "*.yml") for path in ROOT.glob(f"recipes/**/{pattern}")
)
PARSERS = {
    "classify": parse_classify,
    "corpus": parse_corpus,
    "sft": parse_sft,
    "dpo": parse_dpo,
    "kto": parse_kto,
    "ppo": parse_ppo,
    "grpo": parse_grpo,
    "pretrain": parse_pretrain,
    "reward": parse_reward,
    "best_of_n": parse_best_of_n,
    "tokenizer": parse_tokenizer,
    "evaluate": parse_evaluate,
}


def _named(path: Path) -> str:
    return str(path)


def test_every_recipe_is_of_a_known_kind():
    assert len(RECIPES) >= 7
    assert {path.parent.name for path in RECIPES} <= {*PARSERS, "accelerate", "pipeline"}


@pytest.mark.parametrize("path", RECIPES, ids=_named)
def test_a_recipe_begins_by_saying_what_it_is_for(path):
    comment = []
    for line in (ROOT / path).read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        comment.append(line)
    assert len(comment) >= 2


@pytest.mark.parametrize("path", [p for p in RECIPES if p.parent.name in PARSERS], ids=_named)
def test_stage_recipes(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = PARSERS[path.parent.name](["--config", str(path)])
    assert config.recipe_path == str(path)
    if path.parent.name == "evaluate":
        named = [
            entry["path"]
            for key, value in config.to_flat().items()
            if key.endswith(("_datasets", "_tasks"))
            for entry in value
        ]
        assert all(name in ("python_docs", "python_areas") or Path(name).exists() for name in named), named
        return
    if path.parent.name == "corpus":
        named = [dataset.path for dataset in config.sources.datasets]
        assert all(name in ("python_docs", "python_areas") or Path(name).is_file() for name in named), named
        return
    for entry in [*config.data.datasets, *config.data.eval_datasets]:
        assert entry.path in ("python_docs", "python_areas") or Path(entry.path).is_file(), entry.path
    assert config.data.eval_datasets or path.parent.name == "best_of_n"


def test_no_two_recipes_write_into_one_folder():
    parsed = [
        PARSERS[path.parent.name](["--config", str(ROOT / path)])
        for path in RECIPES
        if path.parent.name in PARSERS
    ]
    folders = [config.to_flat()["output_dir"] for config in parsed]
    assert len(folders) == len(set(folders))


@pytest.mark.parametrize("path", [p for p in RECIPES if p.parent.name == "accelerate"], ids=_named)
def test_accelerate_files(path):
    # Accelerate's own reader refuses unknown keys at the top; those inside fsdp_config and deepspeed_config
    # become environment variables unchecked, so they are compared with the options of its launcher.
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    config = load_config_from_file(str(ROOT / path))
    options = {action.dest for action in launch_command_parser()._actions}
    kind = config.distributed_type.value
    assert kind in ("MULTI_GPU", "FSDP", "DEEPSPEED")
    assert bool(config.fsdp_config) == (kind == "FSDP")
    assert bool(config.deepspeed_config) == (kind == "DEEPSPEED")
    assert {*config.fsdp_config, *config.deepspeed_config} <= options
    if kind == "FSDP":
        assert config.fsdp_config["fsdp_version"] == 2
    if kind == "DEEPSPEED":
        # A step is cut into micro-batches by the trainer; DeepSpeed must not count steps of its own.
        assert config.deepspeed_config["gradient_accumulation_steps"] == 1
        assert config.deepspeed_config["zero_stage"] == int(path.stem[-1])
    assert config.num_processes == (2 if path.stem == "cpu_2proc" else 8)


def test_the_slurm_script_is_bash():
    script = ROOT / "recipes" / "accelerate" / "slurm_multinode.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    named = re.findall(r"recipes/[\w/]+\.yaml", script.read_text(encoding="utf-8"))
    assert named
    assert all((ROOT / name).is_file() for name in named)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", str(script)], check=True)
