"""What preference optimisation adds to run.json."""

from __future__ import annotations

from typing import Any

from hf_align.runs.schema import BeforeAndAfter, Fields, Record, entry


class Reference(Fields):
    """The entry ``reference``: what the model is compared with while it trains."""

    kind: str = entry("`run beforehand`, `adapter switched off` or `none`")
    model: str = entry("its path or hub id")
    digest: str = entry("of its weights")
    stored_as: str = entry("the name under which they are stored", key="entry")
    reused: bool = entry("whether the log-probabilities are those of an earlier run")
    rows: int | None = entry("rows that have log-probabilities")
    target_tokens: int | None = entry("tokens that have one")
    seconds: float | None = entry("how long they took")


class StartCheckRecord(Fields):
    """The entry ``start_check``: the loss before the first step against the one that theory gives."""

    checked: bool = entry("whether the two were compared")
    why: str = entry("why not")
    expected: float | None = entry("what theory gives")
    found: dict[str, Any] = entry("what was found, by where")
    first_step: str = entry("why the first step was not checked", key="first step")


class LikelihoodDisplacementSummary(Fields):
    """``chosen_fall`` of the summary: the log-probability of the chosen answers against the reference."""

    lowest: float | None = entry("the lowest change that was logged, in nats per token")
    step: int | None = entry("at which step")
    bound: float | None = entry("`chosen_fall_warning` of the recipe")
    warned_at: int | None = entry("the step of the warning")


class Summary(BeforeAndAfter):
    """The entry ``preference_summary``."""

    chosen_fall: LikelihoodDisplacementSummary = entry("how far the chosen answers themselves fell")


class DpoRecord(Record):
    """The entries of run.json of ``hf-align dpo``."""

    reference: Reference = entry("what the model is compared with while it trains")
    start_check: StartCheckRecord = entry("the loss before the first step against theory")
    preference_summary: Summary = entry("metrics of held-out pairs with intervals")
