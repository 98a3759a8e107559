"""Watches whether the chosen answers themselves become less likely while a preference loss falls.

A pairwise loss asks for a distance between two answers. It can fall while both lose probability, the worse
one faster, and the probability goes to answers that nobody compared. A little of it is usual in DPO; much of
it is a model that forgets how to answer.
"""

from __future__ import annotations

import logging
import math
from typing import Any

from transformers import TrainerCallback

from hf_align.preference.record import LikelihoodDisplacementSummary

logger = logging.getLogger(__name__)

KEY = "logps/chosen_change"
"""Mean log-probability of the chosen answers, less that under the reference, in nats per token."""


class LikelihoodDisplacement(TrainerCallback):
    """Warns once where the chosen answers lose more than ``bound`` nats per token; None: never.

    ``earlier``: ``record`` of the part of the run that this one continues. ``record``, for run.json: the
    bound, the ``lowest`` value that was logged and its ``step``, and the step of the warning (``warned_at``).
    """

    def __init__(self, bound: float | None, *, earlier: LikelihoodDisplacementSummary | None = None) -> None:
        self.record = LikelihoodDisplacementSummary(lowest=None, step=None, warned_at=None)
        self.record.update(earlier or {})
        self.record.bound = bound

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        for key, rows in ((KEY, "training"), (f"eval_{KEY}", "held-out")):
            change = (logs or {}).get(key)
            if change is not None and math.isfinite(change):
                self._note(float(change), state.global_step, rows)

    def _note(self, change: float, step: int, rows: str) -> None:
        lowest, bound = self.record.lowest, self.record.bound
        if lowest is None or change < lowest:
            self.record.lowest, self.record.step = change, step
        if bound is None or change >= -bound or self.record.warned_at is not None:
            return
        self.record.warned_at = step
        logger.warning(
            "step %d: the chosen answers of the %s rows have lost %.2f nats per token against the reference "
            "(chosen_fall_warning: %g): their tokens are %.0f %% less likely than they were. The loss can "
            "fall all the same, since it compares the two answers only; the probability goes to text that "
            "nobody compared, and answers may come out broken. Look at the generations after training. What "
            "helps: sft_weight, for example 0.1, which keeps the chosen answers likely; a lower learning "
            "rate or fewer epochs; a higher beta, at which a smaller distance from the reference is enough.",
            step,
            rows,
            -change,
            bound,
            100 * (1 - math.exp(change)),
        )
