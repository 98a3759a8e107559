"""A reward written by the user: ``file.py:name`` is loaded by its path and called with texts.

It returns a number for each completion, or None for no reward, which adds nothing. What it is given is in
``calling``. A call that fails is made again twice, since services fail for a moment; whatever goes wrong then
is reported with its name and the rows that it was called with.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import inspect
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_align.errors import UserError, did_you_mean
from hf_align.rewards.calling import RowProblem, call, check_form

_LARGEST = float(np.finfo(np.float32).max)
TRIES = 3
PAUSE = 0.5
"""Seconds before a call that failed is made again; twice as many before the next."""


def load_function(file: str, name: str) -> tuple[Callable[..., Any], str]:
    """(the function, a digest of its file), see ``load_file``.

    Raises UserError where there is no such file or function,
    where the file fails, and where the function can be called in neither form.
    """
    key = f"reward_functions: {file}:{name}"
    module, digest = load_file(file, key)
    function = getattr(module, name, None)
    if not callable(function):
        functions = [n for n, value in vars(module).items() if inspect.isfunction(value)]
        listed = f" It has: {', '.join(functions)}." if functions else " It has none."
        kind = "no function" if function is None else f"'{name}' as a {type(function).__name__}, no function"
        raise UserError(f"{key}: '{file}' has {kind} '{name}'.{listed}{did_you_mean(name, functions)}")
    check_form(function, key)
    return function, digest


def load_file(file: str, key: str) -> tuple[ModuleType, str]:
    """(the module that the user's ``file`` is, a digest of it); the file is run.

    Modules beside the file can be imported by it. Raises UserError, which begins with ``key``, where there is
    no such file or where it fails.
    """
    path = Path(os.path.expanduser(file))
    if not path.is_file():
        near = did_you_mean(path.name, (item.name for item in path.parent.glob("*.py")))
        raise UserError(f"{key}: there is no file '{path}'.{near}")
    content = path.read_bytes()
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    # Two files of the same name are two modules; dataclasses and pickle look a module up by its name.
    module_name = f"user_file_{digest}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{key}: '{path}' cannot be loaded as a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    folder = str(path.resolve().parent)
    try:
        with _first_on_path(folder):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the user's own code, which may fail in any way
        sys.modules.pop(module_name, None)
        raise UserError(f"{key}: running '{path}' fails: {_described(error, path)}") from error
    return module, digest


@contextlib.contextmanager
def _first_on_path(folder: str) -> Iterator[None]:
    """``folder`` is looked into first for modules while inside, and last afterwards: functions may import
    too."""
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)


def call_function(
    function: Callable[..., Any],
    name: str,
    prompts: Sequence[str],
    completions: Sequence[str],
    rows: Sequence[dict[str, Any]],
    *,
    places: Sequence[str],
) -> npt.NDArray[np.float64]:
    """(R,) what the function gives for R completions. ``places`` (R): where each row stands in the data.

    Raises UserError where it raises three times, and where it returns something else than R finite numbers.
    """
    key = f"reward_functions: {name}"
    for attempt in range(1, TRIES + 1):
        try:
            returned = call(function, key, prompts, completions, rows)
            break
        except RowProblem as problem:
            raise UserError(f"{places[problem.row]}: {problem}") from problem
        except UserError:
            raise
        except Exception as error:  # the user's own code, which may fail in any way
            if attempt == TRIES:
                where = f" on {len(completions)} answers, the first to {places[0]}" if places else ""
                raise UserError(
                    f"{key} fails{where} ({TRIES} tries): {_described(error, _file_of(name))}"
                ) from error
            time.sleep(PAUSE * 2 ** (attempt - 1))
    count = len(completions)
    try:
        values = list(returned)
    except TypeError:
        found = type(returned).__name__
        raise UserError(f"{key} returned a {found}; expected a list of {count} numbers") from None
    if len(values) != count:
        raise UserError(
            f"{key} returned {len(values)} numbers for {count} completions; expected one for each. "
            f"{_missing(values, places)}"
        )
    numbers = np.empty(count)
    for i, value in enumerate(values):
        number = 0.0 if value is None else _number(value)
        # Advantages are computed in single precision.
        if number is None or not abs(number) <= _LARGEST:
            raise UserError(
                f"{key} returned {_shown(value)} for the answer to {places[i]} (number {i + 1} of {count}: "
                f"{_shown(completions[i])}); expected a finite number{_limit(number)}"
            )
        numbers[i] = number
    return numbers


def _limit(number: float | None) -> str:
    return " of single precision, below 3.4e38" if number is not None and np.isfinite(number) else ""


def _described(error: BaseException, file: Path) -> str:
    """The error in one line, with the line of the user's file that it came from."""
    detail = " ".join(str(error).split())
    text = f"{type(error).__name__}: {detail}" if detail else type(error).__name__
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).name == file.name
    ]
    return f"{text} (line {lines[-1]})" if lines else text


def _file_of(name: str) -> Path:
    return Path(name.rpartition(":")[0])


def _missing(values: Sequence[Any], places: Sequence[str]) -> str:
    if len(values) < len(places):
        return f"The first without one is the answer to {places[len(values)]}"
    return f"The last row is {places[-1]}" if places else "There are no rows"


def _number(value: Any) -> float | None:
    """A number, also one of NumPy or a tensor of one element; None for anything else."""
    if isinstance(value, Real):
        try:
            return float(value)
        except OverflowError:  # a whole number of hundreds of digits
            return None
    if hasattr(value, "item") and getattr(value, "size", None) is not None:
        try:
            return float(value.item())
        except (TypeError, ValueError, RuntimeError):
            return None
    return None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]} … {text[-15:]}"
