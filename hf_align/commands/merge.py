"""Merge an adapter into its base model, and check that the result computes the same.

The logits of the base with its adapter are compared with those of the merged model as it was read back from
what was written. Above a tolerance nothing is kept: the output folder appears only when everything in it is
complete and checked. Training goes on with the adapter, not with the merged model.
"""

from __future__ import annotations

import dataclasses
import gc
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_align.commands.merge_recipe import MergeConfig
from hf_align.config.help import help_text
from hf_align.config.loader import load_config
from hf_align.errors import UserError

if TYPE_CHECKING:
    import torch

    from hf_align.saved_models.merging import Difference
    from hf_align.saved_models.run_models import ModelSource

USAGE = "usage: hf-align merge --model_name_or_path RUN_OR_ADAPTER --output_dir OUT [--key value ...]"
MERGE_FILE = "merge.json"


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Merge as ``argv`` says; returns the content of merge.json.

    Raises UserError for wrong options, for what cannot be merged, and where the merged model differs from
    base and adapter by more than the tolerance.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "-h" in arguments or "--help" in arguments:
        print(help_text(MergeConfig, command="merge", description=__doc__ or "", usage=USAGE))
        return {}
    config = load_config(MergeConfig, arguments, command="merge")

    import torch

    try:
        return run(config)
    except torch.OutOfMemoryError as error:
        raise UserError(
            "the GPU's memory is too small: merging takes four bytes a parameter. Merge in main memory with "
            "--use_cpu true."
        ) from error


def run(config: MergeConfig) -> dict[str, Any]:
    """Merge, check, write; returns the content of merge.json."""
    from hf_align.modeling.loading import load_tokenizer
    from hf_align.reporting.merge_card import write_merge_card
    from hf_align.runs.new_folder import check_new_folder, new_folder
    from hf_align.runs.record import read_run, write_json
    from hf_align.runs.schema import Record
    from hf_align.sampling.options import context_length
    from hf_align.sampling.stopping import stop_token_ids
    from hf_align.saved_models import merging
    from hf_align.saved_models.check_prompts import check_prompts
    from hf_align.saved_models.run_models import attach_adapter, find_model, load_base

    options = config.merge
    check_new_folder(options.output_dir, key="output_dir")
    source = find_model(
        config.model, base=options.base_model, chosen=config.overrides, use_cpu=options.use_cpu
    )
    if source.adapter is None:
        name = config.model.model_name_or_path
        found = "is a whole model" if Path(name).is_dir() else "is no folder here"
        raise UserError(
            f"model_name_or_path: '{name}' {found}; expected an adapter or the run folder of one. There is "
            "nothing to merge."
        )
    adapter = source.adapter
    if source.quantization is None:
        # The base's own weights, exact in float32 whatever they are stored in.
        source = dataclasses.replace(
            source, config=dataclasses.replace(source.config, dtype="float32"), precision="fp32"
        )
    tokenizer = load_tokenizer(source.config)
    base = load_base(source, use_cpu=options.use_cpu)
    stored = _stored_config(source)
    dtype = _save_dtype(options.save_dtype, stored)
    tolerance = options.tolerance or merging.default_tolerance(dtype, source.quantization)
    merging.compute_in_float32(base)
    model = attach_adapter(base, adapter, tokenizer)
    kind = merging.adapter_kind(model)
    record = read_run(source.run_dir) if source.run_dir is not None else Record()
    prompts = check_prompts(
        tokenizer,
        record.generations,
        limit=context_length(base, tokenizer),
    )
    expected = merging.logits_of(model, prompts)
    if source.quantization is not None:
        base = merging.dequantized(model.unload())
        model = attach_adapter(base, adapter, tokenizer)
        unmerged = merging.logits_of(model, prompts)
    else:
        unmerged = expected
    with model.disable_adapter():
        effect = merging.difference(merging.logits_of(model, prompts), expected)
    stop_ids = stop_token_ids(model, tokenizer)
    merged = merging.merge(model)
    exact = merging.difference(merging.logits_of(merged, prompts), unmerged)
    _refuse(exact, max(merging.EXACT, options.tolerance or 0.0), "the merged weights, not yet rounded,")

    with new_folder(options.output_dir, key="output_dir") as folder:
        merging.cast_for_saving(merged, dtype)
        merged.config.use_cache = stored.use_cache if hasattr(stored, "use_cache") else True
        merged.generation_config.eos_token_id = stop_ids or None
        merged.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        del base, model, merged
        gc.collect()
        written = _read_back(folder, source, prompts, tokenizer, use_cpu=options.use_cpu)
        found = merging.difference(written, expected)
        _refuse(found, tolerance, f"the merged model, saved in {merging.dtype_name(dtype)},")
        content = _record(source, kind, dtype, tolerance, exact, found, effect, len(prompts))
        write_json(folder / MERGE_FILE, content)
        write_merge_card(folder, content)
    _tell(content, options.output_dir)
    return content


def _stored_config(source: ModelSource) -> Any:
    """The base's configuration as its own files have it."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(
        source.config.model_name_or_path,
        revision=source.config.model_revision,
        trust_remote_code=source.config.trust_remote_code,
    )


def _save_dtype(wanted: str, stored: Any) -> torch.dtype:
    import torch

    if wanted != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[wanted]
    found = stored.dtype or stored.get_text_config().dtype
    return found if isinstance(found, torch.dtype) and found.is_floating_point else torch.float32


def _read_back(
    folder: Path, source: ModelSource, prompts: list[list[int]], tokenizer: Any, *, use_cpu: bool
) -> torch.Tensor:
    """The logits of what was written, loaded as a user would; its tokenizer is compared on the way."""
    from hf_align.config import ModelConfig
    from hf_align.saved_models.merging import logits_of
    from hf_align.saved_models.run_models import ModelSource, load_run_model

    written = ModelConfig(
        model_name_or_path=str(folder), dtype="float32", trust_remote_code=source.config.trust_remote_code
    )
    model, reloaded = load_run_model(ModelSource(written, None, "fp32", {}, None), use_cpu=use_cpu)
    for ids in prompts:
        text = tokenizer.decode(ids)
        if reloaded(text)["input_ids"] != tokenizer(text)["input_ids"]:
            raise UserError(f"the saved tokenizer reads {text[:60]!r} differently from the adapter's own")
    return logits_of(model, prompts)


def _refuse(difference: Difference, tolerance: float, what: str) -> None:
    if not difference.largest <= tolerance:
        raise UserError(
            f"{what} moves a logit by {difference.largest:.3g} standard deviations of the logits "
            f"(root mean square {difference.typical:.3g}; the likeliest token is the same at "
            f"{difference.same_choice:.1%} of {difference.positions} positions); the tolerance is "
            f"{tolerance:g}. Nothing was written. Rounding shrinks with --save_dtype float32; "
            "--tolerance allows more."
        )


def _record(
    source: ModelSource,
    kind: str,
    dtype: torch.dtype,
    tolerance: float,
    exact: Difference,
    found: Difference,
    effect: Difference,
    prompts: int,
) -> dict[str, Any]:
    from datetime import UTC, datetime

    from hf_align.runs.record import collect_versions
    from hf_align.runs.releases import record_entries
    from hf_align.saved_models.merging import dtype_name

    return {
        "adapter": str(source.adapter),
        "adapter_kind": kind,
        "base_model": source.config.model_name_or_path,
        "base_revision": source.config.model_revision,
        "base_quantization": source.quantization,
        "base_dequantized": source.quantization is not None,
        "save_dtype": dtype_name(dtype),
        "unit": "standard deviations of the logits",
        "tolerance": tolerance,
        "difference": dataclasses.asdict(found),
        "difference_before_rounding": dataclasses.asdict(exact),
        "effect_of_adapter": dataclasses.asdict(effect),
        "prompts": prompts,
        "merged": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": collect_versions(),
        **record_entries(),
    }


def _tell(content: dict[str, Any], output_dir: str) -> None:
    found, effect = content["difference"], content["effect_of_adapter"]
    print(f"adapter    {content['adapter']} ({content['adapter_kind']})")
    print(f"base       {content['base_model']}")
    if content["base_dequantized"]:
        print(
            f"           held in {content['base_quantization']} while the adapter was trained or as asked; "
            "dequantised for the merge, so the result is of full size and equals the quantised base"
        )
    print(
        f"checked    {found['positions']} positions of {content['prompts']} prompts, read back from the "
        f"files: logits moved by at most {found['largest']:.2g} standard deviations (tolerance "
        f"{content['tolerance']:g}), likeliest token the same at {found['same_choice']:.1%}"
    )
    print(f"           the adapter itself moves them by up to {effect['largest']:.2g}")
    if found["typical"] > 0.5 * effect["typical"]:
        print(
            "warning    rounding changes the logits by more than half of what the adapter changes them by; "
            "--save_dtype float32 keeps it",
            file=sys.stderr,
        )
    print(f"saved as   {content['save_dtype']} in {output_dir}")
