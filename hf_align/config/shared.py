"""Options that several commands have: one wording, one range and, but for what is passed, one default each.

A key that means something else to each command, such as ``learning_rate``, is declared where it is used.
"""

from __future__ import annotations

from typing import Any

from hf_align.config.fields import MISSING, option


def output_dir(default: Any = MISSING, *, help: str = "folder for checkpoints, metrics and reports") -> Any:
    """Where a command writes."""
    return option(default, help=help, non_empty=True, changes="place")


def use_cpu() -> Any:
    """Whether to leave a GPU alone."""
    return option(False, help="compute on the CPU even where there is a GPU", changes="machine")


def trust_remote_code() -> Any:
    """Whether code that comes with a model is run."""
    return option(False, help="run the Python code that comes with a model; it can do anything that you can")


def model_revision() -> Any:
    """Which version of a model on the hub."""
    return option(None, help="branch, tag or commit of the model on the hub", non_empty=True)


def tokenizer_name_or_path() -> Any:
    """Another tokenizer than the model's."""
    return option(
        None, help="folder or hub name of the tokenizer, where it is not the model's own", non_empty=True
    )


def chat_template_path() -> Any:
    """Another chat template than the tokenizer's."""
    return option(
        None,
        help="a .jinja file, or a template shipped here: chatml, hermes (ChatML with tools), alpaca",
        non_empty=True,
    )


def base_model() -> Any:
    """Where the base of an adapter lies."""
    return option(None, help="the base of an adapter, where it is not where the adapter says", non_empty=True)


def top_p(default: float = 1.0) -> Any:
    """Nucleus sampling (arXiv 1904.09751)."""
    return option(
        default, gt=0, le=1, help="draw from the likeliest tokens that have this probability together"
    )


def top_k() -> Any:
    """Sampling from so many tokens."""
    return option(0, ge=0, help="draw from so many of the likeliest tokens; 0: from all")


def max_malformed_share() -> Any:
    """How bad data may be."""
    return option(
        0.01, ge=0, le=1, help="share of malformed rows above which the data are refused", changes="outputs"
    )


def drop_duplicates() -> Any:
    """Whether repeated rows are trained on."""
    return option(
        False,
        help="leave training rows out that teach the same as an earlier one; the data report counts them",
        changes="inputs",
        later=True,
    )


def dataset_num_proc() -> Any:
    """How many processes prepare data."""
    return option(
        None,
        ge=1,
        help="processes that prepare large data sets; null: one for each usable core, up to 16",
        changes="speed",
    )


def dataset_cache_dir() -> Any:
    """Where prepared data are kept; goes with an option ``dataset_cache``."""
    return option(
        None,
        help="folder for them; null: hf_align/datasets in HF_HOME or in the user's cache folder",
        non_empty=True,
        needs=("dataset_cache", (True,)),
        changes="place",
    )


def tools() -> Any:
    """Which tools the rows of a source may call."""
    return option(
        None,
        help="tools that the conversations of all its rows may call, as JSON schemas: a .json file, or the "
        "list itself; a row's own column tools takes precedence",
        non_empty=True,
        later=True,
    )


def skip_rows() -> Any:
    """Where to begin."""
    return option(0, ge=0, help="leave so many rows at the beginning out")
