"""What the model card says of a language model: its kind, its adapter, and how to load the two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_align.config.adapter import OWN
from hf_align.reporting.front_matter import is_local
from hf_align.reporting.markdown import code
from hf_align.runs.record import redact
from hf_align.runs.schema import Record


def language_loading(record: Mapping[str, Any]) -> str:
    """The section on how to load the model and its tokenizer."""
    recipe = redact(Record.of(record).recipe)
    kind = "Seq2SeqLM" if is_seq2seq(record) else "CausalLM"
    folder = repr(str(recipe.get("output_dir") or "."))
    loader, package = (
        (f"AutoPeftModelFor{kind}", "peft") if adapter_of(recipe) else (f"AutoModelFor{kind}", "transformers")
    )
    trust = ", trust_remote_code=True" if recipe.get("trust_remote_code") else ""
    if adapter_of(recipe) in OWN:
        package = "hf_align"
        lines = [
            "from hf_align.config import ModelConfig",
            "from hf_align.saved_models.run_models import find_model, load_run_model",
            f"model, tokenizer = load_run_model(find_model(ModelConfig({folder}{trust})))",
        ]
    elif package == "transformers":
        imports = f"from transformers import {loader}, AutoTokenizer"
        lines = [
            imports,
            f"model = {loader}.from_pretrained({folder}{trust})",
            f"tokenizer = AutoTokenizer.from_pretrained({folder}{trust})",
        ]
    else:
        lines = [
            f"import {package}, transformers",
            f"model = {package}.{loader}.from_pretrained({folder}{trust})",
            f"tokenizer = transformers.AutoTokenizer.from_pretrained({folder}{trust})",
        ]
    example = "\n".join(lines)
    note = ""
    if package != "transformers" and is_local(str(recipe.get("model_name_or_path") or "")):
        base = code(str(recipe["model_name_or_path"]))
        note = f"\n\nThis folder holds an adapter; its base model is read from {base} and has to exist."
    return f"## Use\n\n```python\n{example}\n```{note}"


def is_seq2seq(record: Mapping[str, Any]) -> bool:
    """Whether the model has an encoder for the prompt and a decoder for the answer."""
    return Record.of(record).model.seq2seq


def adapter_of(recipe: Mapping[str, Any]) -> str:
    """The adapter's method, or an empty string where all weights were trained."""
    adapter = str(recipe.get("adapter") or "none")
    return "" if adapter == "none" else adapter


def is_adapter(record: Mapping[str, Any]) -> bool:
    """Whether the run folder holds an adapter with its head, and no whole model."""
    record = Record.of(record)
    return bool(adapter_of(record.recipe)) and not record.merge


def plain_loading(recipe: Mapping[str, Any]) -> list[str]:
    """Lines of Python that load a whole sequence classifier and its tokenizer from the run folder."""
    folder = repr(str(recipe.get("output_dir") or "."))
    trust = ", trust_remote_code=True" if recipe.get("trust_remote_code") else ""
    return [
        "from transformers import AutoModelForSequenceClassification, AutoTokenizer",
        f"model = AutoModelForSequenceClassification.from_pretrained({folder}{trust})",
        f"tokenizer = AutoTokenizer.from_pretrained({folder}{trust})",
    ]


def classifier_front_matter(record: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of a sequence classifier's front matter: a merged one is a plain model of transformers."""
    entries = {"pipeline_tag": "text-classification"}
    return entries if is_adapter(record) else {**entries, "library_name": "transformers"}
