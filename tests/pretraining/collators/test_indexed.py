"""Items that know their number and, once it is set, the epoch."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from torch.utils.data import DataLoader

from hf_align.pretraining.collators.indexed import IndexedDataset


def test_items_of_every_form() -> None:
    items = [{"input_ids": [1, 2], "more": "x"}, SimpleNamespace(input_ids=[3]), np.array([4, 5])]
    data = IndexedDataset(items)
    assert len(data) == 3
    assert data[0] == {"input_ids": [1, 2], "more": "x", "index": 0}
    assert data[1] == {"input_ids": [3], "index": 1}
    assert data[2]["input_ids"].tolist() == [4, 5] and data[2]["index"] == 2
    assert items[0] == {"input_ids": [1, 2], "more": "x"}


def test_the_epoch_reaches_workers_that_live_on() -> None:
    data = IndexedDataset([[1], [2], [3]])
    loader = DataLoader(data, batch_size=3, num_workers=1, persistent_workers=True, collate_fn=list)
    (first,) = loader
    assert all("epoch" not in item for item in first)
    data.set_epoch(4)
    (second,) = loader
    assert [item["epoch"] for item in second] == [4, 4, 4]
