"""Write report.html and the model card of a run again, or one page that compares several runs.

``hf-align report RUN`` reads ``run.json`` and ``metrics.jsonl`` of the run folder and changes nothing but the
two pages. With several folders, the one page that is written lies beside the first, or where ``--output``
says; ``--rewrite`` writes the pages of each run as well.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hf_align.errors import UserError, did_you_mean

FORM = "hf-align report RUN [RUN ...] [--output FILE] [--rewrite]"
USAGE = f"""usage: {FORM}

RUN is the output_dir of a run.

One RUN: write its report.html and README.md (the model card) again, from its run.json and metrics.jsonl.
Several: write one page that compares them (curves over each other, recipe differences, metrics and
generations side by side), without changing anything in their folders. They may be of any stage.

  --output FILE   where the comparison goes [default: comparison.html beside the first run folder]
  --rewrite       write report.html and README.md of each run again as well"""
_OPTIONS = ("--output", "--rewrite")


@dataclass(frozen=True)
class _Arguments:
    folders: list[str]
    output: str | None = None
    rewrite: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Write the pages for the folders named in ``argv`` and print their paths.

    Raises UserError before anything is written if one of them is not a run folder.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "-h" in arguments or "--help" in arguments:
        print(USAGE)
        return 0
    wanted = read_arguments(arguments)

    from hf_align.reporting.compare.page import write_comparison
    from hf_align.reporting.html import write_report
    from hf_align.reporting.model_card import write_model_card
    from hf_align.runs.record import read_run

    for folder in wanted.folders:
        read_run(folder)
    if len(wanted.folders) > 1:
        print(write_comparison(wanted.folders, wanted.output))
    if len(wanted.folders) == 1 or wanted.rewrite:
        for folder in wanted.folders:
            print(write_report(folder))
            # An evaluation has no model of its own.
            if read_run(folder).command != "evaluate":
                print(write_model_card(folder))
    return 0


def read_arguments(arguments: Sequence[str]) -> _Arguments:
    """Folders and options. Raises UserError for an unknown, repeated, wrong or useless option."""
    folders: list[str] = []
    output: str | None = None
    rewrite = False
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        name, equals, value = argument.partition("=")
        if not argument.startswith("-"):
            folders.append(argument)
        elif name == "--rewrite":
            if equals:
                raise UserError(f"--rewrite: found a value ({value!r}), expected none.")
            rewrite = True
        elif name == "--output":
            if output is not None:
                raise UserError("--output: this option is given twice.")
            if not equals and (not waiting or waiting[0].startswith("--")):
                raise UserError("--output: a value is missing, expected a file name.")
            output = value if equals else waiting.pop(0)
            if not output or Path(output).is_dir():
                found = f"the folder {output!r}" if output else "an empty value"
                raise UserError(f"--output: found {found}, expected the name of a file to write.")
        else:
            raise UserError(f"{name}: unknown option. Expected: {FORM}.{did_you_mean(name, _OPTIONS)}")
    if not folders:
        raise UserError(f"report: no run folder given. Expected: {FORM}.")
    if output is not None and len(folders) == 1:
        raise UserError(
            "--output: found one run, whose page goes into its own folder; expected several runs to compare."
        )
    return _Arguments(folders, output, rewrite)
