"""``README.md`` of a merged model: what was merged, how exact it is, and how to load it.

It states what merge.json says and nothing more; what the adapter was trained on stands in the adapter's own
model card.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_align.reporting.front_matter import front_matter
from hf_align.reporting.markdown import code, inline, table
from hf_align.reporting.model_card import CARD_FILE
from hf_align.runs.record import write_atomic


def write_merge_card(folder: str | os.PathLike[str], record: Mapping[str, Any]) -> Path:
    """Write the model card of a merged model into ``folder`` and return its path.

    ``record``: the content of merge.json.
    """
    path = Path(folder) / CARD_FILE
    write_atomic(path, merge_card(record).encode("utf-8", "replace"))
    return path


def merge_card(record: Mapping[str, Any]) -> str:
    """The card as Markdown with YAML front matter."""
    base, adapter = str(record["base_model"]), str(record["adapter"])
    parts = [
        _front_matter(base),
        f"# {inline(f'{Path(base).name} with {Path(adapter).name} merged in')}",
        f"The adapter {code(adapter)} ({record['adapter_kind']}) merged into its base {code(base)}. The "
        f"weights were added in float32 and are stored in {record['save_dtype']}.",
    ]
    if record["base_dequantized"]:
        parts.append(
            f"**The base was dequantised.** The adapter works on a base held in "
            f"{record['base_quantization']}, and it corrects that base's rounding too. So the weights here "
            "are the dequantised ones plus the adapter: the model has full size, and it differs from the "
            "original base by the quantisation."
        )
    parts += [_check(record), _use(), _limits()]
    return "\n\n".join(parts) + "\n"


def _front_matter(base: str) -> str:
    values = {
        "base_model": base,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["hf_align", "merge"],
    }
    return front_matter(values)


def _check(record: Mapping[str, Any]) -> str:
    found, exact, effect = (
        record[key] for key in ("difference", "difference_before_rounding", "effect_of_adapter")
    )
    rows = [
        [name, f"{item['largest']:.2g}", f"{item['typical']:.2g}", f"{100 * item['same_choice']:.1f} %"]
        for name, item in (
            ("this model, read back from its files", found),
            ("the merged weights before rounding", exact),
            ("for comparison: the base without the adapter", effect),
        )
    ]
    versus = (
        f"the base in {record['base_quantization']} with its adapter (before rounding: the dequantised base)"
        if record["base_dequantized"]
        else "the base with its adapter"
    )
    return (
        f"## Check\n\nDifference of the logits from those of {versus}, in standard deviations of the logits, "
        f"at {found['positions']} positions of {record['prompts']} prompts, computed in float32. The largest "
        f"allowed was {record['tolerance']:g}.\n\n"
        + table(["", "largest", "root mean square", "same likeliest token"], rows, numbers=True)
    )


def _use() -> str:
    return (
        "## Use\n\nPut the path of this folder, or its hub id, in place of `FOLDER`.\n\n```python\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        'model = AutoModelForCausalLM.from_pretrained("FOLDER")\n'
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")\n```'
    )


def _limits() -> str:
    return (
        "## Limits\n\n- The limits, biases and licence of the base model and of the adapter's training data "
        "apply to this model too.\n- `merge.json` has all metrics and the versions used."
    )
