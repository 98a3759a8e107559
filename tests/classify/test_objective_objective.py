"""Cross-entropy of labels, against PyTorch's own, with rows that do not count."""

from __future__ import annotations

import torch

from hf_align.classify.objective import classification
from hf_align.types import Batch, LabelledBatch


class Given(torch.nn.Module):
    """Returns the logits that it was made with."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(logits)

    def forward(self, **_: object) -> dict[str, torch.Tensor]:
        return {"logits": self.logits}


def test_sums_and_details_leave_out_rows_without_a_label() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [5.0, 0.0]])
    ids = torch.ones(3, 2, dtype=torch.long)
    batch = LabelledBatch(
        Batch(ids, ids, ids, 0, 6, attention_mask=ids),
        torch.tensor([1, 3, 5]),
        torch.tensor([0, 0, -100]),
        torch.tensor([7, 8, 9]),
    )
    model = Given(logits)
    found = classification(model, batch)
    # -log softmax: ln(1 + e^-2) + ln(1 + e)
    expected = torch.log1p(torch.tensor(-2.0).exp()) + torch.log1p(torch.tensor(1.0).exp())
    torch.testing.assert_close(found.loss_sum, expected)
    assert found.count == 2 and found.metrics["correct"] == 1
    assert found.details["numbers"].tolist() == [7, 8] and found.details["predictions"].tolist() == [0, 1]
    found.loss_sum.backward()
    assert not model.logits.grad[2].any() and model.logits.grad[:2].all()
