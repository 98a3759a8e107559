"""States on disk: every batch finds those of its sequences, and training on them is training on live ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.comparisons import random_comparison
from helpers.tiny_ladders import laddered, ladders
from helpers.tiny_models import random_rows, tiny_model

from hf_align.adapters.ladder.states import StateFiles, StateWriter, open_part, stretches_of
from hf_align.data.comparisons.batches import collate_comparisons
from hf_align.data.packing import pack_rows, pad_rows
from hf_align.modeling.attention.packing_probe import enable_segment_attention
from hf_align.modeling.heads.target import install_target_head
from hf_align.modeling.inputs import model_inputs
from hf_align.types import Batch, TokenizedRow


def ready(**options: Any) -> Any:
    base = tiny_model("llama")
    assert enable_segment_attention(base)
    install_target_head(base)
    return laddered(base, **options)


def backbone_of(model: Any) -> Any:
    return model.get_base_model().model.base_layer


def keep(
    model: Any, batches: list[Batch], folder: Path, dtype: torch.dtype = torch.float32, parts: int = 1
) -> StateFiles:
    """The states of all sequences of ``batches``, computed a batch at a time, in several files."""
    (ladder,) = ladders(model)
    found = []
    for number in range(parts):
        writer = StateWriter(folder / f"{number}.bin", dtype)
        for batch in batches[number::parts]:
            arguments = model_inputs(batch)
            del arguments["shift_labels"]
            rungs, final = ladder.compute(backbone_of(model), arguments)
            writer.add(stretches_of(arguments), rungs if final is None else [*rungs, final])
        writer.close()
        found.append(open_part(folder / f"{number}.bin", writer.keys, writer.lengths))
    return StateFiles(
        found,
        states=len(ladder.side.layers) + ladder.adds,
        width=32,
        stored=dtype,
        computed=torch.float32,
        with_final=ladder.adds,
    )


def gradients(model: Any, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    logps = model(**model_inputs(batch))["logps"]
    logps.sum().backward()
    return logps.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}


def runs_of_the_backbone(model: Any) -> list[int]:
    """Grows by one entry whenever a block of the backbone runs."""
    runs: list[int] = []
    backbone_of(model).layers[0].register_forward_hook(lambda *_: runs.append(1))
    return runs


def shared_and_apart() -> tuple[Batch, Batch]:
    rows = [random_comparison(4 + i, [3, 6], seed=i) for i in range(3)]
    shared, apart = (
        collate_comparisons(rows, packed=True, share_prefix=share).inputs for share in (True, False)
    )
    return shared, apart


@pytest.mark.parametrize("output", ["add", "replace"])
@pytest.mark.parametrize("form", ["packed", "padded", "branches"])
def test_gradients_from_exact_states_are_those_of_live_ones(tmp_path: Path, form: str, output: str) -> None:
    rows = random_rows([9, 4, 13, 6])
    batch = {
        "packed": lambda: pack_rows(rows),
        "padded": lambda: pad_rows(rows, 0),
        "branches": lambda: shared_and_apart()[0],
    }[form]()
    model = ready(output=output, every=2)
    live = gradients(model, batch)
    known = keep(model, [batch], tmp_path)
    runs = runs_of_the_backbone(model)
    ladders(model)[0].known = known
    cached = gradients(model, batch)
    assert not runs
    assert torch.equal(cached[0], live[0])
    assert all(torch.equal(cached[1][name], gradient) for name, gradient in live[1].items())


def test_rounded_states_give_gradients_that_are_rounded(tmp_path: Path) -> None:
    batch = pack_rows(random_rows([9, 4, 13, 6]))
    model = ready()
    live = gradients(model, batch)
    ladders(model)[0].known = keep(model, [batch], tmp_path, torch.bfloat16)
    cached = gradients(model, batch)
    for name, gradient in live[1].items():
        distance = torch.linalg.vector_norm(cached[1][name] - gradient) / torch.linalg.vector_norm(gradient)
        assert distance < 0.02, name
    assert any(not torch.equal(cached[1][name], gradient) for name, gradient in live[1].items())


def test_sequences_are_found_in_other_batches_than_those_they_were_computed_in(tmp_path: Path) -> None:
    rows = random_rows([9, 4, 13, 6, 8])
    model = ready()
    # In files of two processes, in batches that no later one equals.
    known = keep(model, [pack_rows(rows[:2]), pad_rows(rows[2:4], 0), pack_rows(rows[4:])], tmp_path, parts=2)
    assert len(known) == 5
    batch = pack_rows([rows[i] for i in (3, 0, 4, 2)])
    live = gradients(model, batch)
    ladders(model)[0].known = known
    runs = runs_of_the_backbone(model)
    cached = gradients(model, batch)
    assert not runs
    torch.testing.assert_close(cached[0], live[0], rtol=1e-4, atol=1e-4)


def test_what_is_not_known_is_computed(tmp_path: Path) -> None:
    rows = random_rows([9, 4, 13])
    model = ready()
    known = keep(model, [pack_rows(rows[:2])], tmp_path)
    ladders(model)[0].known = known
    runs = runs_of_the_backbone(model)
    model(**model_inputs(pack_rows(rows)))
    assert len(runs) == 1
    # Generation neither: it has to fill the cache.
    ids = torch.from_numpy(rows[0].input_ids.astype("int64"))[None]
    model.eval()(input_ids=ids, use_cache=True)
    assert len(runs) == 2
    model(input_ids=ids, use_cache=False)
    assert len(runs) == 2


def test_a_prefix_makes_another_sequence() -> None:
    shared, apart = shared_and_apart()
    one = stretches_of(model_inputs(shared))
    other = stretches_of(model_inputs(apart))
    assert one is not None
    assert other is not None
    assert len(one) == 9
    assert len(other) == 6
    assert len({stretch.key for stretch in [*one, *other]}) == 15
    # The same tokens, cut elsewhere.
    ids = random_rows([9])[0]
    whole = stretches_of(model_inputs(pack_rows([ids])))
    longer = stretches_of(model_inputs(pack_rows([TokenizedRow(ids.input_ids[:8], ids.target_mask[:8])])))
    assert whole is not None
    assert longer is not None
    assert whole[0].key != longer[0].key


def test_padding_on_the_left_is_not_looked_up() -> None:
    ids = torch.arange(3, 11).view(2, 4)
    mask = torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]])
    assert stretches_of({"input_ids": ids, "attention_mask": mask}) is None
    assert stretches_of({"inputs_embeds": torch.zeros(1, 2, 3)}) is None
    right = stretches_of({"input_ids": ids, "attention_mask": mask.flip(1)})
    assert right is not None
    assert [one.length for one in right] == [3, 4]
