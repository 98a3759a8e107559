"""Started by torchrun on two CPU processes: a model under FSDP2 has the gradients of the whole model.

Each process has half of the rows, in two micro-batches; gradients are reduced after the second. Then again
with norm and head in a group of their own, as Accelerate 1.15 makes one, and the head run in chunks, in more
of them by one process than by the other.
"""

from __future__ import annotations

from typing import Any

import torch
from helpers.tiny_models import VOCABULARY, random_rows, tiny_model
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from hf_align.data.packing import pack_rows
from hf_align.modeling.attention.packing_probe import enable_segment_attention
from hf_align.modeling.heads.target import install_target_head
from hf_align.training.objectives.causal_lm import causal_lm

PROCESSES = 2
CHUNK = 8
"""Targets in a chunk: the processes need two and one for the first micro-batch, then two and three."""


def build(max_logits: int = 2**27) -> Any:
    model = tiny_model("llama")
    assert enable_segment_attention(model)
    install_target_head(model, max_logits=max_logits)
    return model


def main() -> None:
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    rows = random_rows([12, 5, 21, 8, 3, 17, 9, 4], seed=3)
    targets = sum(row.target_tokens for row in rows)

    whole = build()
    expected = causal_lm(whole, pack_rows(rows)).loss_sum
    (expected / targets).backward()

    mesh = init_device_mesh("cpu", (PROCESSES,))
    for chunked in (False, True):
        sharded = build(CHUNK * VOCABULARY) if chunked else build()
        for layer in sharded.model.layers:
            fully_shard(layer, mesh=mesh)
        if chunked:
            fully_shard(sharded.model.embed_tokens, mesh=mesh)
            fully_shard([sharded.model.norm, sharded.lm_head], mesh=mesh, reshard_after_forward=False)
        fully_shard(sharded, mesh=mesh)
        mine = rows[rank::PROCESSES]
        for part, last in ((mine[:1], False), (mine[1:], True)):
            sharded.set_requires_gradient_sync(last)
            (causal_lm(sharded, pack_rows(part)).loss_sum * PROCESSES / targets).backward()

        for ours, theirs in zip(sharded.parameters(), whole.parameters(), strict=True):
            torch.testing.assert_close(ours.grad.full_tensor(), theirs.grad, rtol=1e-4, atol=1e-6)
        with torch.no_grad():
            evaluated = causal_lm(sharded.eval(), pack_rows(rows)).loss_sum
        torch.testing.assert_close(evaluated, expected.detach(), rtol=1e-5, atol=1e-4)
    print(f"process {rank}: equal")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
