"""Paths that lead nowhere are found without a heavy library, and what may be elsewhere passes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hf_align.config.checks import check_inputs
from hf_align.config.local_paths import ROW_FILES, check_source, may_be_hub_id
from hf_align.data.reading.sources import READERS
from hf_align.errors import UserError
from hf_align.sft.recipe import SftConfig


def test_the_endings_are_those_that_are_read() -> None:
    assert tuple(READERS) == ROW_FILES


def test_what_may_be_elsewhere_passes(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("")
    for name in ("owner/name", "name", "owner/name.v2", "python_docs", "s3://bucket/a.jsonl", str(tmp_path)):
        check_source(name)
    check_source(str(tmp_path / "*.jsonl"))
    assert not may_be_hub_id("owner/a.jsonl.gz") and not may_be_hub_id("..")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("b.jsonl", r"no such file or folder\. Did you mean 'a.jsonl'"),
        ("none/b.csv.gz", "the folder .*none does not exist either"),
        ("*.csv", "no file matches this pattern"),
    ],
)
def test_what_is_nowhere_is_named(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "a.jsonl").write_text("")
    with pytest.raises(UserError, match=message):
        check_source(str(tmp_path / name))
    values = {"model_name_or_path": "owner/model", "datasets": [str(tmp_path / "a.jsonl")]}
    check_inputs(SftConfig.from_flat(values))
    with pytest.raises(UserError, match=message):
        check_inputs(SftConfig.from_flat(values | {"eval_datasets": [str(tmp_path / name)]}))
    with pytest.raises(UserError, match=r"model_name_or_path: the folder './none' does not exist"):
        check_inputs(SftConfig.from_flat(values | {"model_name_or_path": "./none"}))


@pytest.mark.parametrize(
    ("command", "missing"),
    [("sft", "datasets"), ("reward", "model_name_or_path"), ("classify", "datasets"), ("kto", "datasets")],
)
def test_commands_find_out_before_anything_heavy_is_loaded(
    tmp_path: Path, command: str, missing: str
) -> None:
    (tmp_path / "rows.jsonl").write_text("")
    values = {"datasets": str(tmp_path / "rows.jsonl"), "model_name_or_path": "owner/model"}
    arguments = [command, *(f"--{key}={value}" for key, value in (values | {missing: "./nowhere/x"}).items())]
    script = (
        "import sys\nfrom hf_align.__main__ import main\n"
        f"assert main({arguments!r}) == 2\n"
        "heavy = {'torch', 'transformers', 'datasets', 'numpy', 'peft'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "nowhere" in done.stderr, done.stderr
