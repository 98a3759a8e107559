"""Recipe keys, values, and other names in code font are those of the code."""

from __future__ import annotations

import contextlib
import functools
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.documentation import PAGES, ROOT, blocks, read, spans
from helpers.documented_commands import FOLLOWED
from helpers.documented_commands import read as read_command

from hf_align.commands.chat_recipe import ChatConfig
from hf_align.config import DatasetConfig
from hf_align.config.command_line import read_option_text
from hf_align.config.fields import specs_of
from hf_align.config.group import Group, Recipe
from hf_align.errors import UserError
from hf_align.stages import STAGES, recipe_class

WHOLE = [page for page in PAGES if page not in FOLLOWED]
"""Pages that speak of what is there; the others add it, and are followed by test_doc_extending.py."""

COMMAND_OF = {
    "docs/adapters.md": "sft",
    "docs/corpus.md": "corpus",
    "docs/data.md": "sft",
    "docs/evaluation.md": "evaluate",
    "docs/ladder.md": "sft",
    "docs/pipeline.md": "pipeline",
    "docs/rewards.md": "grpo",
    "docs/tokenizers.md": "tokenizer",
}
"""Whose recipe the YAML of a page belongs to."""

REQUIRED = {"model_name_or_path": "models/SmolLM2-135M-Instruct", "datasets": "data/orders_en.jsonl"}
"""What a block may leave out, since it shows other keys."""

_KEY_VALUE = re.compile(r"([a-z][a-z0-9_]*): (\S.*)")
_NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)+")
ELSEWHERE = {
    "attention": "run.json",
    "zero3_init_flag": "Accelerate's own configuration",
    "fully_shard": "PyTorch's own",
    "set_requires_gradient_sync": "PyTorch's fully_shard",
    "api_server": "a module of vLLM",
    **dict.fromkeys(("ratio_batch", "ratio_shared", "ratio_lora"), "put together by bench_generate.py"),
    "random_spans_noise_mask": "T5's own code",
    "create_pretraining_data": "BERT's own code",
}
"""Names in code font that are no words of the code, or no keys, and where they come from."""


@functools.cache
def _recipes() -> tuple[type[Recipe], ...]:
    return (*map(recipe_class, STAGES), ChatConfig)


@functools.cache
def _keys() -> dict[str, list[Any]]:
    """Every key of a recipe, and of an entry of data sets, tasks and the like, with what it may hold."""
    found: dict[str, list[Any]] = {}
    for specs in [*(recipe.keys() for recipe in _recipes()), *(specs_of(cls) for cls in _groups())]:
        for name, spec in specs.items():
            found.setdefault(name, []).append(spec)
    return found


def _groups() -> Iterator[type[Group]]:
    package = ROOT / "hf_align"
    files = [
        *package.glob("config/[!_]*.py"),
        *package.rglob("recipe*.py"),
        package / "pipeline" / "stages.py",
    ]
    for path in sorted(files):
        module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Group) and value is not Group:
                yield value


@functools.cache
def _words() -> frozenset[str]:
    """Every word of the code, the recipes and the settings, and the names of files, tests included."""
    found = {path.stem for path in (ROOT / "tests").rglob("*.py")}
    folders = ("hf_align", "recipes", "scripts", "benchmarks", "data", "notebooks")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    # Not what was put there on this machine alone: another release of TRL, results.
    files = [
        path
        for path in files
        if not any(part == "results" or part.startswith(".") for part in path.relative_to(ROOT).parts)
    ]
    for path in [*files, ROOT / "setup.cfg", ROOT / "Makefile"]:
        found.add(path.stem)
        if path.suffix in (".py", ".yaml", ".sh", ".jinja", ".cfg", ".ipynb", ""):
            found |= set(re.findall(r"\w+", path.read_text(encoding="utf-8", errors="replace")))
    return frozenset(found)


@pytest.mark.parametrize("page", WHOLE)
def test_yaml_blocks_are_recipes(page: str, tmp_path: Path) -> None:
    for number, block in enumerate(one for one in blocks(read(page)) if one.language == "yaml"):
        assert page in COMMAND_OF, f"{page}:{block.line}: say in COMMAND_OF whose recipe this is"
        keys = yaml.safe_load(block.text)
        given = set(read_keys(COMMAND_OF[page]))
        lacking = {key: value for key, value in REQUIRED.items() if key in given and key not in keys}
        if COMMAND_OF[page] == "evaluate" and "models" in keys:
            lacking.pop("model_name_or_path")
        if COMMAND_OF[page] == "evaluate" and not any(key.endswith(("_datasets", "_tasks")) for key in keys):
            lacking["perplexity_datasets"] = REQUIRED["datasets"]
        recipe = tmp_path / f"{number}.yaml"
        recipe.write_text(block.text + (yaml.safe_dump(lacking) if lacking else ""), encoding="utf-8")
        try:
            read_command([COMMAND_OF[page], "--config", str(recipe)])
        except Exception as error:
            raise AssertionError(f"{page}:{block.line}: {error}") from error


def read_keys(command: str) -> dict[str, Any]:
    recipe: type[Recipe] = recipe_class(command)
    return recipe.keys()


@pytest.mark.parametrize("page", PAGES)
def test_a_key_with_a_value_is_a_key_that_takes_it(page: str) -> None:
    for line, text in spans(read(page)):
        match = _KEY_VALUE.fullmatch(text)
        if match is None or "…" in text or match[1] in ELSEWHERE:
            continue
        key, values = match[1], match[2].split(" | ")
        assert key in _keys(), f"{page}:{line}: `{text}`: there is no recipe key {key}"
        for value in values:
            problems = [_problem(key, value, spec) for spec in _keys()[key]]
            assert None in problems, f"{page}:{line}: `{text}`: {problems[0]}"


def _problem(key: str, value: str, spec: Any) -> str | None:
    """Why the key does not take the value, if it does not; a single letter stands for any value."""
    try:
        read_option_text(key, value, spec)
    except UserError as error:
        return None if re.fullmatch(r"[A-Za-z]", value) else str(error)
    return None


@pytest.mark.parametrize("page", PAGES)
def test_tables_of_keys_hold_keys(page: str) -> None:
    for line, cell in _key_cells(read(page)):
        for name in re.findall(r"`([a-z][a-z0-9_]*)(?::[^`]*)?`", "" if cell.startswith("as ") else cell):
            assert name in _keys(), f"{page}:{line}: there is no recipe key {name}"


def _key_cells(text: str) -> Iterator[tuple[int, str]]:
    """(line, cell) below every "key" or "keys" in the head of a table."""
    columns: list[int] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.startswith("|"):
            columns = None
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if columns is None:
            columns = [
                place for place, cell in enumerate(cells) if re.fullmatch(r"(recipe )?keys?( .*)?", cell)
            ]
        elif not set(line) <= set("|-: "):
            yield from ((number, cells[place]) for place in columns if place < len(cells))


@pytest.mark.parametrize("page", WHOLE)
def test_names_in_code_font_are_names_of_the_code(page: str) -> None:
    for line, text in spans(read(page)):
        for name in _NAME.findall(text):
            assert name in _words() or name in ELSEWHERE, f"{page}:{line}: nothing here is called {name}"


@pytest.mark.parametrize("page", WHOLE)
def test_python_blocks_import_what_exists(page: str) -> None:
    import ast

    for block in blocks(read(page)):
        if block.language != "python" and not block.text.lstrip().startswith(("from hf_align", "import ")):
            continue
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hf_align"):
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    with contextlib.suppress(ModuleNotFoundError):
                        importlib.import_module(f"{node.module}.{alias.name}")
                    assert hasattr(module, alias.name), (
                        f"{page}:{block.line}: {node.module} has no {alias.name}"
                    )


def test_wrong_keys_and_values_are_found() -> None:
    assert set(specs_of(DatasetConfig)) <= set(_keys()) and "lora_rank" not in _keys()
    spec = _keys()["overlong"][0]
    assert _problem("overlong", "drop", spec) is None and "truncate" in str(_problem("overlong", "cut", spec))
    table = "| key | what |\n|---|---|\n| `a`, `b` | `c` |\n\n| loss | keys |\n|---|---|\n| `x` | as `d` |\n"
    assert list(_key_cells(table)) == [(3, "`a`, `b`"), (7, "as `d`")]
    assert "learning_rate" in _words() and "learning_rat" not in _words()
