"""What a step of a pipeline depends on, and what is known of its last run: whether it is up to date.

A step depends on its recipe, on the content of every file that the recipe names, on what the steps before it
depend on, and on the code and the libraries that compute it. All of it is in one hash. A small file for each
step holds the hash of its last run together with the parts, so that what has changed can be named.
"""

from __future__ import annotations

import functools
import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hf_align.config.fields import Change, Spec, choices, entry_type, members, specs_of
from hf_align.errors import UserError
from hf_align.pipeline.stages import OWN_FOLDER, Step
from hf_align.runs.code_digest import code_digest
from hf_align.runs.record import RUN_FILE, redact, write_json
from hf_align.runs.schema import Fields, Record, entry
from hf_align.stages import STAGES

Parts = dict[str, Any]
Action = Literal["reuse", "resume", "run"]

_CODE = tuple(
    f"{room}/**/*.py"
    for room in (
        *("types", "losses", "statistics", "data", "modeling", "adapters"),
        *("sampling", "saved_models", "rewards", "training"),
    )
)
_ALSO_USED = {"best_of_n": ("sft",)}
"""Rooms of other capabilities that a capability is built on."""
_LEFT_OUT: tuple[Change, ...] = ("rounding", "speed", "place", "resuming")
"""Changes that make no other metrics and no other weights."""
OF_PYTHON = ("python_docs", "python_areas")
"""Data sets that are made of what Python carries. hf_align.data, which reads them, would import torch."""
_DONE = {"merge": "merge.json"}
"""What says that a step is done, where it is not a run.json."""


class Collected(Fields):
    """The entry ``pipeline``: collected from the folders of all steps."""

    steps: dict[str, Any] = entry("`status`, `seconds`, `peak_memory_bytes` and headline facts, by step")
    evaluations: list[Any] = entry("models, results over all seeds and answers of each stage of evaluation")


class PipelineRecord(Record):
    """The entries of run.json of ``hf-align pipeline``."""

    steps: list[Any] = entry("each with its stage, command, seed, folder, status and seconds")
    pipeline: Collected = entry("what all steps have left")


@dataclass(frozen=True)
class Planned:
    """What is to be done with a step, and why; ``fingerprint`` and ``parts``: what it depends on."""

    step: Step
    action: Action
    reason: str
    fingerprint: str
    parts: Parts


def state_file(output_dir: str, step: Step) -> Path:
    """Where the state of a step is kept."""
    return Path(output_dir) / OWN_FOLDER / "state" / f"{step.name}.json"


def parts_of(step: Step, upstream: Mapping[str, str]) -> Parts:
    """What ``step`` depends on. ``upstream``: the fingerprints of the steps that it uses, by name.

    Raises UserError where a file that the recipe names cannot be read.
    """
    flat = _counting(step, step.config.to_flat())
    folders = {str(Path(step.output_dir).parent / name): name for name in step.uses}
    files = {}
    for text in sorted(set(_paths(type(step.config).keys(), flat))):
        if any(text == folder or text.startswith(f"{folder}/") for folder in folders):
            continue
        path = _existing(text)
        if path is not None:
            files[text] = digest_of(path)
        elif text in OF_PYTHON:
            files[text] = f"Python {platform.python_version()}"
    return {
        "command": step.command,
        "recipe": flat,
        "files": files,
        "steps": {name: upstream[name] for name in step.uses},
        "code": code_digest(*_CODE, *_own_code(step.command)),
    }


def _counting(step: Step, recipe: Mapping[str, Any]) -> dict[str, Any]:
    left_out = step.config.keys_that_change(*_LEFT_OUT)
    return {key: value for key, value in step.config.renamed(recipe).items() if key not in left_out}


def _own_code(command: str) -> list[str]:
    """Patterns of the files of a stage's own room, or of its command where it has none."""
    folder, _, name = STAGES[command].command.removeprefix("hf_align.").partition(".")
    if folder == "commands":
        return [f"commands/{name}.py"]
    return [f"{room}/**/*.py" for room in (folder, *_ALSO_USED.get(folder, ()))]


def fingerprint(parts: Parts) -> str:
    """A hash of what a step depends on, 32 hexadecimal digits."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _paths(specs: Mapping[str, Spec], values: Mapping[str, Any]) -> Iterator[str]:
    """The texts of a recipe, or of one of its entries, that may be paths: all but choices and names."""
    for key, value in values.items():
        hint = specs[key].hint
        entry = entry_type(hint)
        if entry is not None:
            for item in value:
                yield from _paths(specs_of(entry), item)
        elif not specs[key].option.text and not any(choices(member) for member in members(hint)):
            yield from _texts(value)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _existing(text: str) -> Path | None:
    """The file or folder that ``text`` names, without the function behind ``file.py:function``."""
    for name in (text, text.rpartition(":")[0]):
        try:
            path = Path(name).expanduser()
            if name.strip("./~") and path.exists():
                return path
        except (OSError, ValueError, RuntimeError):  # too long for a name, or a user who is not there
            continue
    return None


@functools.cache
def digest_of(path: Path) -> str:
    """A hash of the content of a file, or of all files of a folder with their names; once a plan."""
    digest = hashlib.blake2b(digest_size=16)
    files = [path] if path.is_file() else sorted(item for item in path.rglob("*") if item.is_file())
    for file in files:
        name = "" if file == path else file.relative_to(path).as_posix()
        try:
            with file.open("rb") as stream:
                content = hashlib.file_digest(stream, "blake2b").hexdigest()
        except OSError as error:
            raise UserError(f"{file}: cannot be read: {error.strerror or error}.") from error
        digest.update(f"{name} {content} ".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def read_state(path: Path) -> dict[str, Any]:
    """What is known of the last run of a step; empty where there is none, or where the file is damaged."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_state(path: Path, planned: Planned, **entries: Any) -> None:
    """Keep the state of a step: its fingerprint, what it was made of, and ``entries``."""
    write_json(path, {"fingerprint": planned.fingerprint, "parts": redact(planned.parts), **entries})


def plan_step(
    step: Step, output_dir: str, upstream: Mapping[str, Planned], *, keep_after_upgrade: bool, rerun: bool
) -> Planned:
    """What to do with ``step``, where the steps before it are planned as ``upstream``."""
    parts = parts_of(step, {name: upstream[name].fingerprint for name in step.uses})
    state = read_state(state_file(output_dir, step))
    known = dict(state.get("parts") or {})
    whole = bool(known) and fingerprint(known) == state.get("fingerprint")
    if keep_after_upgrade and whole:
        parts = {**parts, "code": known.get("code")}
    mine = fingerprint(parts)
    # Keys that another release counted, and that do not count now.
    if whole and fingerprint({**known, "recipe": _counting(step, known["recipe"])}) == mine:
        parts, mine = known, str(state["fingerprint"])
    again = [
        name
        for name in step.uses
        if upstream[name].action != "reuse"
        or run_started(upstream[name].step) != dict(state.get("built_on") or {}).get(name)
    ]
    if rerun:
        return Planned(step, "run", "asked for by rerun", mine, parts)
    if not state:
        return Planned(step, "run", "has not run yet", mine, parts)
    if state.get("fingerprint") != mine:
        return Planned(step, "run", _what_changed(known, redact(parts)), mine, parts)
    if again:
        return Planned(step, "run", f"{', '.join(again)} is made anew", mine, parts)
    if state.get("status") != "completed":
        return Planned(step, "resume", "was cut short", mine, parts)
    record = Record.of(read_state(done_file(step)))
    if not record or record.status not in ("completed", ""):  # merge.json has none
        return Planned(step, "run", f"{step.output_dir} is no longer there", mine, parts)
    if run_started(step) != state.get("run_started"):
        return Planned(step, "run", f"{step.output_dir} holds another run", mine, parts)
    return Planned(step, "reuse", "up to date", mine, parts)


def run_started(step: Step) -> str:
    """When the run in the folder of ``step`` began, which tells one run from another."""
    return Record.of(read_state(done_file(step))).started


def done_file(step: Step) -> Path:
    """The file that a finished step leaves in its folder."""
    return Path(step.output_dir) / _DONE.get(step.command, RUN_FILE)


def _what_changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """``learning_rate changed``: the first of what changed, in the words of the recipe."""
    if before.get("command") != now["command"]:
        return f"was a stage of {before.get('command')}"
    for part in ("recipe", "files"):
        old, new = dict(before.get(part) or {}), now[part]
        names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        if names:
            more = f" and {len(names) - 2} more" if len(names) > 2 else ""
            return f"{', '.join(names[:2])}{more} changed"
    steps = dict(before.get("steps") or {})
    if steps != now["steps"]:
        names = [name for name, value in now["steps"].items() if steps.get(name) != value]
        return f"{', '.join(names) or 'what it builds on'} changed"
    return "hf_align or its libraries changed (keep_after_upgrade: true reuses it)"
