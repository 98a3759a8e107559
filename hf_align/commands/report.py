"""Write report.html and the model card of finished or interrupted runs again.

``hf-align report RUN [RUN …]`` reads ``run.json`` and ``metrics.jsonl`` of each run folder and changes
nothing but the two pages.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hf_align.errors import UserError

USAGE = """usage: hf-align report RUN [RUN ...]

Write report.html and README.md (the model card) of each run folder again, from its run.json and
metrics.jsonl, and print their paths. RUN is the output_dir of a run."""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the pages of every folder named in ``argv``.

    Raises UserError before anything is written if one of them is not a run folder.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "-h" in arguments or "--help" in arguments:
        print(USAGE)
        return 0
    for argument in arguments:
        if argument.startswith("-"):
            raise UserError(f"{argument}: report takes no options. Expected: hf-align report RUN [RUN ...].")
    if not arguments:
        raise UserError("report: no run folder given. Expected: hf-align report RUN [RUN ...].")

    from hf_align.reporting.html import write_report
    from hf_align.reporting.model_card import write_model_card
    from hf_align.reporting.run_record import read_run

    for folder in arguments:
        read_run(folder)
    for folder in arguments:
        print(write_report(folder))
        print(write_model_card(folder))
    return 0
