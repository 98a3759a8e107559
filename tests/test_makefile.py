"""What ``make`` starts, seen through an environment whose interpreter only writes its arguments down."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODEL = "models/SmolLM2-135M-Instruct"
VARIABLES = (
    "RECIPE",
    "ARGS",
    "NPROC",
    "ACCELERATE",
    "RUN",
    "OUT",
    "VENV",
    "PYTHON",
    "TORCH",
    "UPDATE",
    "MAKEFLAGS",
)

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


class Checkout:
    """A copy of the files that make reads, and an environment with a recording interpreter."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("Makefile", "setup.cfg", "pyproject.toml"):
            shutil.copy(ROOT / name, folder / name)
        (folder / "scripts").mkdir()
        shutil.copy(ROOT / "scripts" / "check_environment.py", folder / "scripts")
        (folder / "env" / "bin").mkdir(parents=True)
        self.log = folder / "log"
        python = folder / "env" / "bin" / "python3"
        # The check passes, "-c" code really runs, everything else is only written down.
        python.write_text(
            "#!/bin/bash\n"
            f'if [ "$1" = -c ]; then exec {sys.executable} "$@"; fi\n'
            f'echo "NPROC=$NPROC $*" >> "{self.log}"\n'
        )
        python.chmod(0o755)

    def make(self, *arguments: str) -> list[str]:
        """Run make with the recording environment and return what it started, in order."""
        result = self.run("VENV=env", *arguments)
        assert result.returncode == 0, result.stderr
        return self.started()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        self.log.unlink(missing_ok=True)
        return subprocess.run(
            ["make", *arguments], cwd=self.folder, env=environment, capture_output=True, text=True
        )

    def started(self) -> list[str]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if "check_environment" not in line]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    made = Checkout(tmp_path)
    (tmp_path / "other.yaml").write_text("model_name_or_path: somewhere/else\n")
    (tmp_path / "default.yaml").write_text(f"model_name_or_path: {MODEL}\n")
    return made


def test_sft_passes_recipe_and_arguments(checkout: Checkout) -> None:
    started = checkout.make("sft", "RECIPE=other.yaml", "ARGS=--max_steps 3 --run_name 'two words'")
    assert started == ["NPROC=1 -m hf_align sft --config other.yaml --max_steps 3 --run_name two words"]


def test_default_model_is_built_only_where_the_recipe_names_it(checkout: Checkout) -> None:
    built = checkout.make("sft", "RECIPE=default.yaml")
    assert "scripts/build_default_model.py" in built[0] and "sft --config default.yaml" in built[1]
    assert len(checkout.make("sft", "RECIPE=other.yaml")) == 1
    assert len(checkout.make("sft", "RECIPE=default.yaml", "ARGS=--model_name_or_path other")) == 1
    assert len(checkout.make("sft", "RECIPE=other.yaml", f"ARGS=--model_name_or_path {MODEL}")) == 2
    (checkout.folder / MODEL).mkdir(parents=True)
    (checkout.folder / MODEL / "model.safetensors").touch()
    assert len(checkout.make("sft", "RECIPE=default.yaml")) == 1


def test_each_stage_has_a_quickstart_of_its_own(checkout: Checkout) -> None:
    for stage in ("sft", "reward", "dpo"):
        recipe = checkout.folder / "recipes" / stage / "quickstart.yaml"
        recipe.parent.mkdir(parents=True)
        recipe.write_text(f"model_name_or_path: {MODEL}\n")
        built, started = checkout.make(stage)
        assert "scripts/build_default_model.py" in built
        assert started == f"NPROC=1 -m hf_align {stage} --config recipes/{stage}/quickstart.yaml"
    (started,) = checkout.make("reward", "RECIPE=other.yaml", "NPROC=2")
    assert "torch.distributed.run --standalone --nproc_per_node 2 " in started
    assert " -m hf_align reward --config other.yaml" in started


def test_several_processes_start_through_torchrun(checkout: Checkout) -> None:
    (started,) = checkout.make("sft", "RECIPE=other.yaml", "NPROC=2")
    assert started.startswith("NPROC=2 -m torch.distributed.run --standalone --nproc_per_node 2 ")
    assert " -m hf_align sft --config other.yaml" in started


def test_accelerate_file_starts_through_accelerate_launch(checkout: Checkout) -> None:
    (started,) = checkout.make("sft", "RECIPE=other.yaml", "ACCELERATE=fsdp2.yaml")
    assert "accelerate.commands.launch --config_file fsdp2.yaml" in started
    assert "--num_processes" not in started
    (started,) = checkout.make("sft", "RECIPE=other.yaml", "ACCELERATE=fsdp2.yaml", "NPROC=8")
    assert "--config_file fsdp2.yaml --num_processes 8 -m hf_align sft" in started


def test_a_replay_has_the_recipe_of_its_run(checkout: Checkout) -> None:
    (started,) = checkout.make("ppo", "RECIPE=other.yaml", "ARGS=--replay runs/x:3 --episode 2")
    assert started == "NPROC=1 -m hf_align ppo --replay runs/x:3 --episode 2"
    (started,) = checkout.make("grpo", "ARGS=--replay runs/x:3")
    assert started == "NPROC=1 -m hf_align grpo --replay runs/x:3"


def test_environment_is_checked_once(checkout: Checkout) -> None:
    checkout.make("sft", "RECIPE=other.yaml")
    assert "check_environment" in checkout.log.read_text()
    checkout.make("sft", "RECIPE=other.yaml")
    assert "check_environment" not in checkout.log.read_text()


@pytest.mark.parametrize("name", ["newest", "oldest"])
def test_environments_of_releases_are_made_once(checkout: Checkout, name: str) -> None:
    folder = checkout.folder / f".venv-{name}"
    (folder / "bin").mkdir(parents=True)
    shutil.copy(checkout.folder / "env" / "bin" / "python3", folder / "bin")
    tested = [
        "NPROC=1 -m hf_align --version",
        "NPROC=1 -m pytest -n 2 -m not slow tests/data",
    ]
    pip = "NPROC=1 -m pip --disable-pip-version-check install --progress-bar off --quiet"
    upgrade = " --upgrade --upgrade-strategy eager" if name == "newest" else ""
    made = [
        f"{pip}{upgrade} torch==9",
        f"{pip}{upgrade} --editable .[dev] --constraint .venv-{name}/constraints.txt",
        *tested,
    ]
    arguments = (f"test-{name}", "TORCH=torch==9", "ARGS=tests/data", "TEST_WORKERS=2")
    assert checkout.make(*arguments) == made
    assert f"--constraints {name}" in checkout.log.read_text()
    assert checkout.make(*arguments) == tested
    later = (folder / ".hf_align-ready").stat().st_mtime + 60
    os.utime(checkout.folder / "setup.cfg", (later, later))
    assert checkout.make(*arguments) == made
    os.utime(checkout.folder / "setup.cfg", (1, 1))
    assert checkout.make(*arguments, "UPDATE=1") == (made if name == "newest" else tested)


def test_an_environment_of_releases_that_could_not_be_made_is_tried_again(checkout: Checkout) -> None:
    python = checkout.folder / ".venv-oldest" / "bin" / "python3"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/bash\n[ "$2" != pip ]\n')
    python.chmod(0o755)
    for _ in range(2):
        assert checkout.run("test-oldest").returncode == 2
    assert not (checkout.folder / ".venv-oldest" / ".hf_align-ready").exists()


def test_report_chat_and_merge_take_the_newest_run(checkout: Checkout) -> None:
    for target in ("report", "chat", "merge"):
        assert checkout.run(target, "VENV=env").returncode == 2
    (checkout.folder / "runs" / "no run").mkdir(parents=True)
    for age, name in enumerate(("new", "old")):
        record = checkout.folder / "runs" / name / "run.json"
        record.parent.mkdir()
        record.touch()
        os.utime(record, (1_000_000 - age, 1_000_000 - age))
    assert checkout.make("report") == ["NPROC=1 -m hf_align report runs/new"]
    assert checkout.make("report", "RUN=runs/old") == ["NPROC=1 -m hf_align report runs/old"]
    chat = "NPROC=1 -m hf_align chat --model_name_or_path"
    assert checkout.make("chat") == [f"{chat} runs/new"]
    assert checkout.make("chat", "RUN=a model", "ARGS=--seed 1") == [f"{chat} a model --seed 1"]
    merge = "NPROC=1 -m hf_align merge --model_name_or_path"
    assert checkout.make("merge") == [f"{merge} runs/new --output_dir runs/new-merged"]
    assert checkout.make("merge", "RUN=runs/old/") == [f"{merge} runs/old/ --output_dir runs/old-merged"]
    assert checkout.make("merge", "RUN=x", "OUT=y") == [f"{merge} x --output_dir y"]


def test_report_compares_several_runs(checkout: Checkout) -> None:
    started = checkout.make("report", "RUN=runs/a runs/b", "ARGS=--output page.html")
    assert started == ["NPROC=1 -m hf_align report runs/a runs/b --output page.html"]


def test_a_folder_that_is_no_environment_is_left_alone(checkout: Checkout) -> None:
    (checkout.folder / "precious").mkdir()
    (checkout.folder / "precious" / "file").write_text("mine")
    result = checkout.run("install", "VENV=precious")
    assert result.returncode == 2 and "VENV=precious exists but is no Python environment" in result.stderr
    assert (checkout.folder / "precious" / "file").read_text() == "mine"


def test_old_python_is_refused_by_name(checkout: Checkout) -> None:
    old = checkout.folder / "python3.9"
    old.write_text('#!/bin/bash\nif [ "$1" = --version ]; then echo Python 3.9.18; else exit 1; fi\n')
    old.chmod(0o755)
    result = checkout.run("install", "VENV=new", f"PYTHON={old}")
    assert result.returncode == 2
    assert "needs Python 3.11 or newer" in result.stderr and "is Python 3.9.18" in result.stderr
    assert not (checkout.folder / "new").exists()


def test_help_lists_every_public_target(checkout: Checkout) -> None:
    targets = set(re.findall(r"^\.PHONY: ([a-z-]+)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    listed = checkout.run().stdout
    for target in targets:
        assert re.search(rf"^  {target} +\S", listed, flags=re.MULTILINE), target


def test_pretrain_trains_the_tokenizer_that_its_recipe_names(checkout: Checkout) -> None:
    recipe = checkout.folder / "small.yaml"
    recipe.write_text("architecture: t5\ntokenizer_name_or_path: runs/tokenizer_unigram\n")
    trained, started = checkout.make("pretrain", "RECIPE=small.yaml")
    assert trained == "NPROC=1 -m hf_align tokenizer --config recipes/tokenizer/unigram.yaml"
    assert started == "NPROC=1 -m hf_align pretrain --config small.yaml"
    other = "ARGS=--tokenizer_name_or_path runs/tokenizer"
    trained, _ = checkout.make("pretrain", "RECIPE=small.yaml", other)
    assert trained.endswith("recipes/tokenizer/quickstart.yaml --compare_with null")
    (checkout.folder / "runs" / "tokenizer_unigram").mkdir(parents=True)
    (checkout.folder / "runs" / "tokenizer_unigram" / "tokenizer.json").touch()
    assert len(checkout.make("pretrain", "RECIPE=small.yaml")) == 1


def test_a_chain_of_recipes_is_made_from_its_beginning(checkout: Checkout) -> None:
    for path in ("tokenizer/extend_zh", "pretrain/continue_zh", "sft/zh"):
        recipe = checkout.folder / "recipes" / f"{path}.yaml"
        recipe.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "recipes" / f"{path}.yaml", recipe)
    arguments = ("sft", "RECIPE=recipes/sft/zh.yaml", "ARGS=--max_steps 3", "NPROC=1")
    *earlier, last = checkout.make(*arguments)
    assert [line.removeprefix("NPROC=1 ").removeprefix("-m hf_align ") for line in earlier] == [
        f"scripts/build_default_model.py --output {MODEL}",
        "tokenizer --config recipes/tokenizer/extend_zh.yaml",
        "pretrain --config recipes/pretrain/continue_zh.yaml",
    ]
    # What is given for the last step is not for the others.
    assert last == "NPROC=1 -m hf_align sft --config recipes/sft/zh.yaml --max_steps 3"
    made = checkout.folder / "runs" / "pretrain_continue_zh" / "model.safetensors"
    made.parent.mkdir(parents=True)
    made.touch()
    assert checkout.make(*arguments) == [last]
    shutil.rmtree(made.parent)
    other = ("sft", "RECIPE=recipes/sft/zh.yaml", "ARGS=--model_name_or_path models/other")
    assert len(checkout.make(*other)) == 1
    said = checkout.run("VENV=env", *arguments).stdout
    assert "First runs/pretrain_continue_zh/model.safetensors is made" in said


def test_comments_and_other_keys_name_no_run_to_make(checkout: Checkout) -> None:
    recipe = checkout.folder / "small.yaml"
    recipe.write_text(
        "# after runs/pretrain_a comes\nmodel_name_or_path: some/model # not runs/pretrain_b\n"
        "output_dir: runs/pretrain_c\n"
    )
    assert len(checkout.make("pretrain", "RECIPE=small.yaml")) == 1
