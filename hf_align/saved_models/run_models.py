"""One call for whatever holds a model: a whole model, an adapter with its base, or a run folder.

What a folder holds is read from its files, never guessed from its name. An adapter's base is loaded as it was
when the adapter was trained (4-bit, 8-bit, precision), which the run folder records. Training loads its base
through ``loading`` alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hf_align.config import ModelConfig
from hf_align.errors import UserError
from hf_align.modeling.loading import check_vocabulary, load_model, load_tokenizer
from hf_align.modeling.precision import Precision, resolve_precision, runs_on_cpu
from hf_align.runs.record import RUN_FILE
from hf_align.runs.schema import Record

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_FOLDER = "adapter"
"""Where a run that saves a merged model keeps the adapter, inside its own folder."""
_QUANTIZATION = ("load_in_4bit", "load_in_8bit", "bnb_4bit_quant_type", "use_bnb_nested_quant")
_TASKS = {"CAUSAL_LM": "a model that generates text", "SEQ_CLS": "a reward model"}
_PRECISIONS: dict[str, Precision] = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


@dataclass(frozen=True)
class ModelSource:
    """What is to be loaded. Made by :func:`find_model`.

    ``config``: the whole model or the base, with the tokenizer beside it. ``adapter``: the folder of the
    adapter, or None. ``precision``: of the computation. ``recipe``: the recipe of the run that made it, or an
    empty mapping; ``run_dir``: that run's folder, or None.
    """

    config: ModelConfig
    adapter: Path | None
    precision: Precision
    recipe: dict[str, Any]
    run_dir: Path | None

    @property
    def quantization(self) -> str | None:
        """How the weights are held while they are loaded: ``nf4``, ``fp4``, ``int8`` or None."""
        if self.config.load_in_8bit:
            return "int8"
        return self.config.bnb_4bit_quant_type if self.config.load_in_4bit else None


def find_model(
    config: ModelConfig,
    *,
    base: str | None = None,
    chosen: Collection[str] = (),
    use_cpu: bool = False,
    task_type: str = "CAUSAL_LM",
) -> ModelSource:
    """What ``config.model_name_or_path`` holds; reads no weights.

    ``base``: the base model to put an adapter on, in place of the one that the adapter names. ``chosen``:
    keys that the user gave a value, which is kept even where it is the default. ``task_type``: what an
    adapter has to be for, by PEFT's name.
    Raises UserError for a folder that holds neither a model nor an adapter, and for an adapter whose base
    cannot be found.
    """
    folder = Path(os.path.expanduser(config.model_name_or_path))
    if not (folder / ADAPTER_CONFIG).is_file():
        if base is not None:
            raise UserError(
                f"base_model: '{folder}' is no adapter ({ADAPTER_CONFIG} is missing); remove this key"
            )
        if folder.is_dir() and not (folder / "config.json").is_file():
            raise UserError(_nothing_there(folder))
        run_dir, record = _run_record(folder)
        recipe = record.recipe
        return ModelSource(config, None, _precision(config, Record(), use_cpu), recipe, run_dir)
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise UserError(
            f"{folder}: {ADAPTER_WEIGHTS} is missing; expected the weights of the adapter beside "
            f"{ADAPTER_CONFIG}, as safetensors"
        )
    run_dir, record = _run_record(folder)
    recipe = record.recipe
    settings = _read_json(folder / ADAPTER_CONFIG)
    if settings.get("task_type") not in (None, task_type):
        raise UserError(
            f"{folder / ADAPTER_CONFIG}: task_type is {settings['task_type']}; expected {task_type}, the "
            f"adapter of {_TASKS[task_type]}"
        )
    changes: dict[str, Any] = {
        "model_name_or_path": base or _find_base(folder, settings, run_dir, recipe),
        "tokenizer_name_or_path": config.tokenizer_name_or_path or _tokenizer_of(folder),
    }
    if config.model_revision is None and base is None and settings.get("revision"):
        changes["model_revision"] = str(settings["revision"])
    asked = any(key in chosen or getattr(config, key) for key in ("load_in_4bit", "load_in_8bit"))
    if not asked:
        changes |= {key: recipe[key] for key in _QUANTIZATION if key in recipe and key not in chosen}
    if "dtype" in recipe and "dtype" not in chosen and config.dtype == "auto":
        changes["dtype"] = recipe["dtype"]
    config = dataclasses.replace(config, **changes)
    return ModelSource(config, folder, _precision(config, record, use_cpu), recipe, run_dir)


def load_run_model(source: ModelSource, *, use_cpu: bool = False) -> tuple[Any, PreTrainedTokenizerBase]:
    """The model in evaluation mode, with its adapter, on the device it will run on, and its tokenizer.

    Raises UserError where either cannot be loaded.
    """
    tokenizer = load_tokenizer(source.config)
    model: Any = load_base(source, use_cpu=use_cpu)
    _note_other_format(source)
    if source.adapter is not None:
        model = attach_adapter(model, source.adapter, tokenizer)
    else:
        check_vocabulary(model, tokenizer)
    return model.eval(), tokenizer


def _note_other_format(source: ModelSource) -> None:
    """A line in the log where the base is to be held otherwise than in the run that trained the adapter.

    Adapters of our own remember that themselves.
    """
    from hf_align.adapters.custom.files import is_own
    from hf_align.adapters.fingerprint import note_other_format

    recipe = source.recipe
    if source.adapter is None or "load_in_4bit" not in recipe or is_own(source.adapter):
        return
    four_bits = str(recipe.get("bnb_4bit_quant_type") or "nf4") if recipe["load_in_4bit"] else ""
    trained = "int8" if recipe.get("load_in_8bit") else four_bits
    note_other_format(trained, source.quantization or "", source.adapter)


def load_base(source: ModelSource, *, use_cpu: bool = False) -> PreTrainedModel:
    """The whole model, or the base without its adapter, on the device it will run on.

    Raises UserError where it cannot be loaded.
    """
    import torch

    try:
        model = load_model(source.config, trainable_base=False, precision=source.precision, use_cpu=use_cpu)
    except UserError as error:
        if source.adapter is None:
            raise
        raise UserError(
            f"{error}. This is the base model that the adapter in '{source.adapter}' needs; give its folder "
            "with --base_model."
        ) from error
    if source.quantization is None and not runs_on_cpu(use_cpu):
        # The stubs of torch do not know that a device alone may be given here.
        cast("Any", model).to(torch.accelerator.current_accelerator())
    return model


def attach_adapter(base: PreTrainedModel, folder: Path, tokenizer: PreTrainedTokenizerBase) -> Any:
    """``base`` with the saved adapter on it, frozen; its embedding grows to the size saved with the adapter.

    Raises UserError where the adapter does not fit the base, or the tokenizer neither.
    """
    from hf_align.adapters.custom.files import is_own
    from hf_align.adapters.custom.model import load_custom
    from hf_align.adapters.peft_methods import load_peft

    place = (
        f"{folder}: this adapter does not fit the base model '{base.name_or_path}' ({type(base).__name__})"
    )
    shapes = _saved_shapes(folder)
    _resize(base, shapes, place)
    model: Any = load_custom(base, folder) if is_own(folder) else load_peft(base, folder, shapes, place=place)
    check_vocabulary(model, tokenizer)
    return model


def _saved_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights in an adapter's file."""
    from safetensors import SafetensorError, safe_open

    path = folder / ADAPTER_WEIGHTS
    try:
        with safe_open(path, framework="pt") as weights:
            return {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"{path}: this file cannot be read as safetensors: {error}") from error


def _resize(base: PreTrainedModel, shapes: dict[str, tuple[int, ...]], place: str) -> None:
    """Give the embeddings the size that was saved with the adapter; what new rows hold is loaded later.

    Raises UserError where the new rows of an embedding were not saved: nobody knows them any more.
    """
    embedding, head = base.get_input_embeddings(), base.get_output_embeddings()
    tied = head is None or head.weight is embedding.weight
    saved: dict[str, int] = {}
    for name, module in base.named_modules():
        if module is not embedding and module is not head:
            continue
        for key, shape in shapes.items():
            whole = key.endswith(".weight") and "lora_" not in key and len(shape) == 2
            if whole and f".{name}." in f".{key}":
                saved[name] = shape[0]
    rows = max(saved.values(), default=None)
    if rows is None or rows == embedding.weight.shape[0]:
        return
    if len(saved) < (1 if tied else 2):
        raise UserError(
            f"{place}: the vocabulary was resized to {rows:,} tokens, but of the two embeddings only "
            f"{next(iter(saved))} was saved with the adapter: what the other held for the new tokens is lost"
        )
    base.resize_token_embeddings(rows, mean_resizing=False)


def _find_base(folder: Path, settings: dict[str, Any], run_dir: Path | None, recipe: dict[str, Any]) -> str:
    """The base that an adapter names, also where the run was made in another working directory."""
    name = settings.get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise UserError(
            f"{folder / ADAPTER_CONFIG}: it names no base model; give its folder with --base_model"
        )
    output_dir = Path(str(recipe.get("output_dir") or "/"))
    if run_dir is None or Path(name).exists() or Path(name).is_absolute() or output_dir.is_absolute():
        return name
    place, parts = run_dir.resolve(), output_dir.parts
    if place.parts[-len(parts) :] == parts:
        moved = Path(*place.parts[: -len(parts)]) / name
        return str(moved) if moved.is_dir() else name
    return name


def _tokenizer_of(folder: Path) -> str | None:
    """The folder itself if a tokenizer was saved there: training saves the one it used with the adapter."""
    return str(folder) if (folder / "tokenizer_config.json").is_file() else None


def _run_record(folder: Path) -> tuple[Path | None, Record]:
    """The run folder that ``folder`` is or lies in, as a checkpoint or the adapter beside a merged model, and
    its run.json; (None, an empty one) without it."""
    inside = re.fullmatch(rf"checkpoint-\d+|{ADAPTER_FOLDER}", folder.name)
    for place in (folder, *([folder.parent] if inside else [])):
        if (place / RUN_FILE).is_file():
            return place, Record.of(_read_json(place / RUN_FILE))
    return None, Record()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:  # broken JSON or broken UTF-8
        raise UserError(f"{path}: this file cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def _precision(config: ModelConfig, record: Record, use_cpu: bool) -> Precision:
    """As the weights are to be loaded, else as in the run, where this machine can, else what suits it."""
    if config.dtype != "auto":
        return resolve_precision(_PRECISIONS[config.dtype], use_cpu=use_cpu)
    wanted = record.model.precision
    if wanted in _PRECISIONS.values():
        with contextlib.suppress(UserError):  # the run had another machine
            return resolve_precision(wanted, use_cpu=use_cpu)
    return resolve_precision("auto", use_cpu=use_cpu)


def _nothing_there(folder: Path) -> str:
    found = (
        f"{folder}: there is neither a model (config.json) nor an adapter ({ADAPTER_CONFIG}) in this folder."
    )
    inside = [
        path.name
        for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        if any((path / name).is_file() for name in (ADAPTER_CONFIG, "config.json"))
    ]
    if inside:
        return f"{found} These folders inside it hold one, the newest first: {', '.join(inside[:8])}."
    if (folder / RUN_FILE).is_file():
        return f"{found} The run that started here has saved nothing yet."
    return f"{found} Expected a model, an adapter, or the output_dir of a run."
