"""Show which tokens a recipe trains, in the terminal and as an HTML page; needs no model weights.

Everything but the display is what training does: the same recipe, tokenizer, template, masking and data
report. Nothing is trained and no model is loaded. Of compared answers the shared prompt is shown once, then
each answer with its score.
"""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_align.config import Recipe, load_config
from hf_align.config.help import help_text
from hf_align.config.loader import recipe_keys
from hf_align.errors import UserError, did_you_mean

DEFAULT_ROWS = 5
OWN_HELP = f"""
inspect:
  --rows N                        how many rows to show, spread evenly over the data [default {DEFAULT_ROWS}]
  --html FILE                     where the page goes [default OUTPUT_DIR-inspect.html]
  --color                         colour the terminal text even where it goes to a file or a pipe
  --stage NAME                    sft, dpo, reward, kto, pretrain [default: by its keys, else sft]"""
STAGES = {
    "sft": ("hf_align.sft.recipe", "SftConfig"),
    "dpo": ("hf_align.preference.recipe", "DpoConfig"),
    "reward": ("hf_align.reward_model.recipe", "RewardConfig"),
    "kto": ("hf_align.kto.recipe", "KtoConfig"),
    "pretrain": ("hf_align.pretraining.recipe", "PretrainConfig"),
}
"""The stages that train on rows, and where the recipe class of each is."""
_COMPARISONS = ("dpo", "reward")


@dataclass(frozen=True)
class Display:
    """The options of this command itself."""

    rows: int = DEFAULT_ROWS
    html: str | None = None
    color: bool = False
    stage: str | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Print rows with their masks and write the page. Raises UserError for a wrong recipe or wrong data."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    wants_help = "-h" in arguments or "--help" in arguments
    display, rest = split_arguments([one for one in arguments if one not in ("-h", "--help")])
    stage = display.stage or ("sft" if wants_help else stage_of(rest))
    recipe = recipe_class(stage)
    if wants_help:
        print(help_text(recipe, command="inspect", description=str(__doc__).partition("\n")[0]))
        print(OWN_HELP)
        return 0
    config: Any = load_config(recipe, rest, command="inspect")
    if stage == "pretrain":
        return _show_pretraining(config, display)

    from hf_align.data.conversion.formats import OtherStageError
    from hf_align.data.prepare import prepare_datasets
    from hf_align.data.unpaired import prepare_unpaired
    from hf_align.modeling.loading import load_tokenizer
    from hf_align.reporting.mask_view import choose_rows, render_html, render_terminal
    from hf_align.runs.record import write_atomic

    tokenizer = load_tokenizer(config.model)
    comparisons = stage in _COMPARISONS
    try:
        if stage == "kto":
            prepared = prepare_unpaired(config.data, tokenizer, seed=config.training.seed)
        else:
            prepared = prepare_datasets(
                config.data,
                tokenizer,
                seed=config.training.seed,
                comparisons=comparisons,
                weighted=stage == "sft",
            )
    except OtherStageError as error:
        taken = "" if display.stage else f" (This recipe was taken for one of {stage}; see --stage.)"
        raise UserError(f"{error}{taken}") from None
    rows = choose_rows(prepared.train, display.rows)
    color = display.color or sys.stdout.isatty()
    for position, row in enumerate(rows, start=1):
        share = f"{row.target_tokens:,} of {len(row):,} tokens trained"
        share += f", weight {row.weight:g}" if getattr(row, "weight", 1) != 1 else ""
        print(f"{_heading(f'Row {position}: {row.source}', color)} ({share})")
        print(render_terminal(row, tokenizer, color=color).rstrip("\n"), end="\n\n")
    legend = "in colour" if color else "between ⟦ and ⟧"
    print(f"Trained tokens are {legend}; · is a space, ↵ a line end.\n")
    print(prepared.report.summary())
    path = _page(config, display)
    write_atomic(path, render_html(rows, tokenizer, prepared.report).encode("utf-8", "replace"))
    print(f"\n{path}")
    return 0


def _show_pretraining(config: Any, display: Display) -> int:
    """Print rows as a pre-training batch has them, shortened: what is read, and what is to be predicted."""
    from hf_align.pretraining.collators import make_collator, objective
    from hf_align.pretraining.collators.show import example_rows, rows_as_text
    from hf_align.pretraining.data import prepare_pretraining, shortened
    from hf_align.pretraining.new_model import load_pretraining_tokenizer
    from hf_align.pretraining.report_objective import example_lines, lines_terminal, render_page
    from hf_align.reporting.mask_view import spread
    from hf_align.runs.record import write_atomic

    tokenizer = load_pretraining_tokenizer(config.model)
    name, seed = config.objective_name, config.training.seed
    collator = make_collator(name, tokenizer, seed=seed, **config.objective.objective_kwargs)
    prepared = prepare_pretraining(config.data, tokenizer, collator, name, seed=seed)
    if config.data.streaming:
        rows = list(itertools.islice(iter(prepared.train), display.rows))
    else:
        rows = spread(prepared.train, display.rows)
    chosen = objective(name)
    examples = [shortened(row.example, with_specials=chosen.examples == "with_specials") for row in rows]
    if not config.data.isolate_documents:
        examples = [{**example, "segment_lengths": None} for example in examples]
    print(f"{name}: {chosen.title} ({chosen.source})", end="\n\n")
    metrics = example_lines(name, tokenizer, collator, examples)
    if display.color or sys.stdout.isatty():
        shown = [lines_terminal(lines) for lines in metrics]
    else:
        shown = rows_as_text(example_rows(name, tokenizer, collator, examples))
    for text in shown:
        print(text, end="\n\n")
    print(prepared.report.summary())
    path = _page(config, display)
    write_atomic(path, render_page(name, metrics, prepared.report).encode("utf-8", "replace"))
    print(f"\n{path}")
    return 0


def _page(config: Any, display: Display) -> Path:
    """Beside the run folder, not in it: a run starts in an empty folder, or moves what is there aside."""
    return Path(display.html or f"{Path(config.training.output_dir)}-inspect.html")


def split_arguments(arguments: Sequence[str]) -> tuple[Display, list[str]]:
    """This command's own options, and the rest, which belongs to the recipe.

    Raises UserError for a missing or wrong value and for an option given twice.
    """
    own: dict[str, Any] = {}
    rest: list[str] = []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        name, equals, value = argument.partition("=")
        if name not in ("--rows", "--html", "--color", "--stage"):
            rest.append(argument)
            # The value of another option is never one of ours, even where it looks like one.
            if argument.startswith("--") and not equals and waiting and not waiting[0].startswith("--"):
                rest.append(waiting.pop(0))
            continue
        key = name[2:]
        if key in own:
            raise UserError(f"{name}: this option is given twice.")
        if key == "color":
            if equals:
                raise UserError(f"--color: found a value ({value!r}), expected none.")
            own[key] = True
            continue
        if not equals:
            if not waiting or waiting[0].startswith("--"):
                raise UserError(f"{name}: a value is missing, expected {_EXPECTED[key]}.")
            value = waiting.pop(0)
        own[key] = _READERS[key](value)
    return Display(**own), rest


def stage_of(arguments: Sequence[str]) -> str:
    """The stage whose recipe this is: the only one that has all its keys, or the first of several.

    Where no stage has all of them, the one that has most of them: its own message says what is wrong.
    """
    given = recipe_keys(arguments)
    return max(STAGES, key=lambda stage: len(given & set(recipe_class(stage).keys())))


def recipe_class(stage: str) -> type[Recipe]:
    """The recipe class of a stage; its module is imported here."""
    module, name = STAGES[stage]
    found: type[Recipe] = getattr(importlib.import_module(module), name)
    return found


def _row_count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise UserError(f"--rows: found {text!r}, expected a whole number of at least 1.")
    return int(text)


def _page_name(text: str) -> str:
    if not text or Path(text).is_dir():
        found = f"the folder {text!r}" if text else "an empty value"
        raise UserError(f"--html: found {found}, expected the name of a file to write.")
    return text


def _stage_name(text: str) -> str:
    if text not in STAGES:
        raise UserError(f"--stage: found {text!r}, expected {', '.join(STAGES)}.{did_you_mean(text, STAGES)}")
    return text


_EXPECTED = {"rows": "a number of rows", "html": "a file name", "stage": " or ".join(STAGES)}
_READERS = {"rows": _row_count, "html": _page_name, "stage": _stage_name}


def _heading(text: str, color: bool) -> str:
    return f"\x1b[1m{text}\x1b[0m" if color else text
