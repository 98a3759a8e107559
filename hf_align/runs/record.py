"""The run record (``run.json``): atomic writing, reading, and the facts about versions and the machine.

What its entries are is declared in ``schema``. Secrets never reach the disk: ``write_json`` hides every value
that looks like a token, a key or a password.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import math
import os
import platform
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hf_align
from hf_align.errors import UserError
from hf_align.runs.schema import Record

RUN_FILE = "run.json"
REDACTED = "<redacted>"

_PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "peft",
    "trl",
    "accelerate",
    "bitsandbytes",
    "datasets",
    "safetensors",
    "numpy",
    "flash-attn",
)

# A key names a secret by its last words. `token` alone is not enough: eos_token is a piece of text.
_SECRET_KEY = re.compile(
    r"(?:^|[_\-.\s])(?:passwords?|passwd|passphrase|secrets?|credentials?|api[_-]?key|apikey"
    r"|(?:access|private|secret|signing|license)[_-]?key|auth(?:orization)?)$",
    re.IGNORECASE,
)
_TOKEN_KEY = re.compile(r"(?:^|[_\-.\s])token$", re.IGNORECASE)
_TEXT_TOKEN_KEY = re.compile(
    r"(?:^|[_\-.\s])(?:eos|bos|pad|unk|sep|cls|mask|start|end|stop|turn|image|audio|video|boi|eoi)[_-]token$",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(
    r"hf_[A-Za-z0-9]{20,}"  # Hugging Face
    r"|api_org_[A-Za-z0-9]{20,}"
    r"|(?<![A-Za-z0-9])sk-(?=[A-Za-z_\-]*[0-9])[A-Za-z0-9_\-]{16,}"  # OpenAI, Anthropic
    r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_\-]{16,}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}"  # AWS
    r"|AIza[A-Za-z0-9_\-]{30,}"  # Google
    r"|xox[abprs]-[A-Za-z0-9\-]{10,}"  # Slack
    r"|eyJ[A-Za-z0-9_\-]{10,}\.[A-Za-z0-9_\-]{10,}\.[A-Za-z0-9_\-]{10,}"  # JSON web tokens
    r"|(?i:bearer) [A-Za-z0-9._\-]{16,}"
    r"|(?<=://)[^\s/@]+(?=@)"  # user:password@ in an address
    r"|(?<=[?&])(?i:token|access_token|api_key|apikey|key|sig|signature|x-amz-[a-z\-]+)=[^\s&#]+"
)


def redact(value: Any, key: str = "") -> Any:
    """A copy of ``value`` in which everything that looks like a secret reads ``<redacted>``.

    Judged by the name of the key (``hub_token``, ``wandb_api_key``; not ``eos_token`` or
    ``max_tokens_per_batch``) and by the form of the text (known token formats, passwords in addresses).
    """
    if isinstance(value, Mapping):
        return {name: redact(item, str(name)) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item, key) for item in value]
    if value not in (None, "") and not isinstance(value, bool) and _names_secret(key):
        return REDACTED
    return _SECRET_VALUE.sub(REDACTED, value) if isinstance(value, str) else value


def _names_secret(key: str) -> bool:
    return bool(_SECRET_KEY.search(key) or (_TOKEN_KEY.search(key) and not _TEXT_TOKEN_KEY.search(key)))


def json_ready(value: Any) -> Any:
    """``value`` in types that strict JSON knows.

    NaN and infinities become the strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``, which ``float``
    reads back; NumPy and torch scalars become Python numbers, dataclasses dictionaries, paths strings.

    Raises TypeError for anything else.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((json_ready(item) for item in value), key=str)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return json_ready(dataclasses.asdict(value))
    if hasattr(value, "tolist"):  # NumPy arrays and scalars, torch tensors
        return json_ready(value.tolist())
    raise TypeError(f"{type(value).__name__} has no JSON form")


def encode_json(value: Any, *, indent: int | None = None) -> bytes:
    """``value`` as strict JSON in UTF-8, with secrets hidden. Lone surrogates become ``\\udXXX`` escapes."""
    text = json.dumps(redact(json_ready(value)), ensure_ascii=False, allow_nan=False, indent=indent)
    return text.encode("utf-8", "backslashreplace")


def write_json(path: str | os.PathLike[str], obj: Any) -> None:
    """Write ``obj`` to ``path`` atomically: a reader sees the whole old file or the whole new one."""
    write_atomic(path, encode_json(obj, indent=2) + b"\n")


def write_atomic(path: str | os.PathLike[str], content: bytes) -> None:
    """Replace ``path`` by ``content`` in one step; folders on the way are made."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes the file private; a report is to be shared like any other new file.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def read_run(run_dir: str | os.PathLike[str]) -> Record:
    """The record of the run folder ``run_dir``.

    Raises UserError if the folder or its ``run.json`` is missing, or the file does not hold a JSON object.
    """
    folder = Path(run_dir)
    path = folder / RUN_FILE
    if not folder.exists():
        raise UserError(f"{folder}: there is no such folder. Expected a run folder: the output_dir of a run.")
    if not folder.is_dir():
        raise UserError(f"{folder}: this is a file. Expected a run folder, which holds a {RUN_FILE}.")
    if not path.is_file():
        inside = sorted(entry.parent.name for entry in folder.glob(f"*/{RUN_FILE}"))
        hint = f" These folders inside it have one: {', '.join(inside[:8])}." if inside else ""
        raise UserError(
            f"{folder}: {RUN_FILE} is missing, so this is not a run folder. Training writes that file at its "
            f"start; give the output_dir of a run.{hint}"
        )
    try:
        record = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}:{error.lineno}: not valid JSON ({error.msg}, column {error.colno})."
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}).") from error
    if not isinstance(record, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(record).__name__}.")
    return Record.of(record)


def collect_versions() -> dict[str, str]:
    """Versions of Python, this package and its main dependencies that are installed; none is imported."""
    versions = {"python": platform.python_version(), "hf_align": hf_align.__version__}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def collect_machine() -> dict[str, Any]:
    """``cpu`` (name), ``cores`` (usable here), ``memory_bytes``, ``accelerator`` (or None), ``system``."""
    return {
        "cpu": _cpu_name(),
        "cores": _usable_cores(),
        "memory_bytes": _memory_bytes(),
        "accelerator": _accelerator(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()[0].strip()
    except (OSError, IndexError, UnicodeDecodeError):
        return ""


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.lower().startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine() or "unknown"


def _usable_cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _first_line("/sys/fs/cgroup/cpu.max").partition(" ")  # a container's limit
    if quota.isdigit() and period.isdigit() and int(period):
        cores = min(cores, max(1, math.ceil(int(quota) / int(period))))
    return cores


def _memory_bytes() -> int | None:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    limit = _first_line("/sys/fs/cgroup/memory.max")
    return min(total, int(limit)) if limit.isdigit() else total


def _accelerator() -> str | None:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return (
            f"{len(names)} x {names[0]} ({memory:.0f} GiB)"
            if len(names) > 1
            else f"{names[0]} ({memory:.0f} GiB)"
        )
    return "Apple GPU (MPS)" if torch.backends.mps.is_available() else None
