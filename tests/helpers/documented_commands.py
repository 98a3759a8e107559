"""Whether a command of the documentation is one that exists: what it starts is read as the program reads it.

Nothing is trained here. A recipe with its overrides goes through the real reader of its command, an option of
a script is looked up in the script, a path has to be there, or be written by a recipe or another command.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import re
import shlex
from collections.abc import Iterable, Iterator
from configparser import ConfigParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

from helpers.documentation import PAGES, ROOT, Command, commands
from helpers.recorded_shell import RecordedShell

import hf_align.__main__ as cli

PLACEHOLDERS = (
    (r"recipes/(\w+)/…\.yaml", r"recipes/\1/quickstart.yaml"),
    (r"(hf-align (\w+)) --config …", r"\1 --config recipes/\2/quickstart.yaml"),
    (r"^make …", "make sft"),
    (r"RECIPE=…", "RECIPE=recipes/sft/quickstart.yaml"),
    (r"\bRECIPE\.yaml", "recipes/sft/quickstart.yaml"),
    (r"hf-align COMMAND", "hf-align sft"),
    (r"RUN=…", "RUN=runs/quickstart"),
    (r"vllm serve …", "vllm serve models/SmolLM2-135M-Instruct"),
    (r"runs/a runs/b", "runs/quickstart runs/dpo"),
    (r"NPROC=N\b", "NPROC=2"),
)
"""What stands for something in the documentation, and an example of it."""

NOT_STARTED = {
    "git clone <this repository> && cd hf_align": "the address is the reader's; cloning needs the network",
    "accelerate launch": "the name of the program",
    "accelerate launch --cpu --num_processes 2": "named as what does not do what it seems to do",
    "bash -n": "the name of a check",
}
"""Commands that are only named, each with the reason."""

READERS = {"report": "read_arguments"}
"""Commands that have no recipe, with the function that reads their options."""

RECIPE_READERS = {"pipeline": "load_pipeline"}
"""Commands whose recipe is read by another function than load_config; what that gives holds it as config."""

FOLLOWED = ("docs/extending.md",)
"""Pages whose commands need what the page adds; test_doc_extending.py follows them."""

WRITTEN_BY_MAKE = ("models/SmolLM2-135M-Instruct", "models/all-MiniLM-L6-v2", "docs/api")
_PATH = re.compile(r"(?<![\w/.])(?:data|recipes|models|runs|tests|docs|benchmarks|scripts)/[\w./-]+")
_WHAT_TO_DO = (
    "A command of the documentation has to be one that a reader can type. Fix the page; or teach "
    "tests/helpers/documented_commands.py about it: a placeholder goes into PLACEHOLDERS, a command that is "
    "only named into NOT_STARTED with the reason, another program into check_call."
)


class _Read(Exception):
    """Carries the recipe out of a command, right after it was read."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config


def documented() -> list[Command]:
    """Every command of every page, each text once."""
    found: dict[str, Command] = {}
    for page in PAGES:
        for command in [] if page in FOLLOWED else commands(page):
            found.setdefault(command.text, command)
    return list(found.values())


def example(text: str) -> str:
    """``text`` with something real for each placeholder."""
    for pattern, replacement in PLACEHOLDERS:
        text = re.sub(pattern, replacement, text)
    return text


def check(command: Command, shell: RecordedShell) -> None:
    """Raise AssertionError, with the place and what to do, where the command would not work."""
    if command.text in NOT_STARTED:
        return
    try:
        text = example(command.text)
        assert "…" not in text, "this placeholder is not known"
        for call in shell.started(text):
            check_call(call)
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise AssertionError(f"{command}\n{reason}\n{_WHAT_TO_DO}") from error


def check_call(call: list[str]) -> None:
    """Raise AssertionError or UserError for a program with arguments that it would not take."""
    started = hf_align_call(call)
    if started is not None:
        check_hf_align(started[1])
        return
    match call:
        case ["python3", "-m", "accelerate.commands.launch", "--config_file", file, *rest]:
            assert Path(ROOT / file).is_file(), f"there is no {file}"
            check_hf_align(rest[rest.index("hf_align") + 1 :])
        case ["python3", "-m", "pytest" | "ruff" | "mypy" as tool, *arguments]:
            importlib.import_module(tool)
            check_paths(arguments)
        case ["python3", "-m", "pip", *arguments] if "install" in arguments:
            check_paths(arguments)
        case ["python3" | "python", script, *arguments] if script.endswith(".py"):
            check_script(script, arguments)
        case ["vllm", "serve", *arguments]:
            check_paths(arguments)
        case ["sbatch", script, *arguments]:
            assert (ROOT / script).is_file(), f"there is no {script}"
            check_paths(arguments)
        case ["pip", "install", requirement]:
            extra = re.fullmatch(r"hf_align\[([\w-]+)\]", requirement)
            assert extra and extra[1] in _extras(), f"{requirement}: not this package with one of its extras"
        case _:
            raise AssertionError(f"{shlex.join(call)}: nothing is known about this program")


def hf_align_call(call: list[str]) -> tuple[int, list[str]] | None:
    """(processes, arguments) of a call of ``hf-align``, however it is started; None for another program."""
    match call:
        case ["python3" | "python", "-m", "hf_align", *arguments] | ["hf-align", *arguments]:
            return 1, arguments
        case ["python3", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", count, *rest]:
            return int(count), rest[rest.index("hf_align") + 1 :]
    return None


def check_hf_align(arguments: list[str]) -> None:
    """The recipe and the options are read by the command itself, which is stopped before it does anything."""
    assert arguments, "the name of a command is missing"
    if "--help" in arguments or arguments == ["--version"]:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            try:
                status = cli.main(arguments)
            except SystemExit as end:
                status = int(end.code or 0)
        assert (
            status == 0 and ("hf-align" if "--version" in arguments else "usage") in output.getvalue().lower()
        )
        return
    known = _commands()
    assert arguments[0] in known, f"{arguments[0]}: there is no such command; there are {', '.join(known)}"
    if len(arguments) > 1:  # a name alone is a name
        read(arguments)
        check_paths(arguments)


def read(arguments: list[str]) -> Any:
    """The recipe that ``hf-align ARGUMENTS`` reads, or None where the command takes none."""
    name, *options = arguments
    module = importlib.import_module(f"hf_align.commands.{name.replace('-', '_')}")
    if name in READERS:
        getattr(module, READERS[name])(options)
        return None
    if name == "ppo" and "--replay" in options:
        module.read_replay(options)
        return None
    reader = RECIPE_READERS.get(name, "load_config")
    assert hasattr(module, reader), f"{name}: add the function that reads its options to READERS"
    real = getattr(module, reader)

    def stop(*given: Any, **named: Any) -> Any:
        raise _Read(real(*given, **named))

    with contextlib.chdir(ROOT), mock.patch.object(module, reader, stop):
        try:
            module.main(options)
        except _Read as found:
            return getattr(found.config, "config", found.config)
    raise AssertionError(f"{name}: it did not read its recipe")


def check_paths(arguments: list[str]) -> None:
    """Every path of this project in the arguments is there, or is written by something that is documented."""
    read_from = [one for last, one in pairwise(["", *arguments]) if last != "--output_dir"]
    for path in (path for path in paths(read_from) if not path.startswith(WRITTEN_BY_MAKE)):
        if path.startswith("models/"):
            raise AssertionError(f"{path}: no target of make builds this model")
        elif path.startswith("runs/"):
            assert run_of(path) in written_runs(), (
                f"{path}: no recipe and no documented command writes {run_of(path)}"
            )
        else:
            assert (ROOT / path).exists(), f"there is no {path}"


def paths(arguments: Iterable[str]) -> list[str]:
    """The paths of this project that are named anywhere in the arguments."""
    return [path for argument in arguments for path in _PATH.findall(argument)]


def check_script(script: str, arguments: list[str]) -> None:
    """The script is there, and it or a script beside it names every option that it is given."""
    assert (ROOT / script).is_file(), f"there is no {script}"
    folder = (ROOT / script).parent
    source = "".join(path.read_text(encoding="utf-8") for path in [ROOT / script, *folder.glob("*.py")])
    for option in (argument.partition("=")[0] for argument in arguments if argument.startswith("--")):
        assert f'"{option}"' in source, f"{script} has no option {option}"
    check_paths(arguments)


def run_of(path: str) -> str:
    """runs/NAME of anything inside it; "make merge" writes beside it, with -merged behind the name."""
    return "/".join(path.split("/")[:2]).removesuffix("-merged")


@functools.cache
def written_runs() -> frozenset[str]:
    """Run folders that recipes, defaults and options of documented commands name as their output."""
    folders = set()
    for arguments in recipe_arguments():
        config = read(arguments)
        folders.add(config.to_flat()["output_dir"])
        spec = type(config).keys()["output_dir"]
        folders |= {str(spec.default)} if not spec.required else set()
    for command in documented():
        folders |= set(re.findall(r"(?:--output_dir[ =]|\bOUT=)(runs/[\w.-]+)", command.text))
    return frozenset(folders)


def recipe_arguments() -> Iterator[list[str]]:
    """Command and recipe of every file under recipes/ that belongs to a command."""
    known = _commands()
    for path in sorted(ROOT.glob("recipes/*/*.yaml")):
        name = path.parent.name.replace("_", "-")
        if name in known:
            yield [name, "--config", str(path.relative_to(ROOT))]


@functools.cache
def _commands() -> dict[str, str]:
    return cli.find_commands()


@functools.cache
def _extras() -> frozenset[str]:
    parser = ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return frozenset(parser["options.extras_require"])
