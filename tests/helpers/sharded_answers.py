"""Started by torchrun on two CPU processes: a model under FSDP2 answers as the whole model does.

The processes draw other tokens, as rounding on other hardware may make them, and none waits for the other.
"""

from __future__ import annotations

import torch
from helpers.tiny_checkpoint import tiny_tokenizer
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from hf_align.config import SamplesConfig
from hf_align.sampling.answers import Answer
from hf_align.training.samples import generate_answers
from hf_align.types import Example, Message

PROCESSES = 2


def build(vocabulary: int) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama",
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.15,
    )
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def main() -> None:
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    tokenizer = tiny_tokenizer()
    whole, sharded = build(len(tokenizer)), build(len(tokenizer))
    mesh = init_device_mesh("cpu", (PROCESSES,))
    for layer in sharded.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    examples = [
        Example(source=question, messages=(Message("user", question), Message("assistant", "x")))
        for question in ("Hi", "Please send twelve lamps to Oslo.", "a b c")
    ]

    greedy = SamplesConfig(sample_max_new_tokens=8)
    expected = generate_answers(whole, tokenizer, examples, greedy, stop_ids=[2], seed=0)
    # Each process has ends of its own.
    stops_at_once = rank == 1
    stop_ids = list(range(len(tokenizer))) if stops_at_once else [2]
    found = generate_answers(sharded, tokenizer, examples, greedy, stop_ids=stop_ids, seed=0, sharded=True)
    assert found == ([Answer("", True, 1)] * 3 if stops_at_once else expected), found

    drawn = SamplesConfig(sample_max_new_tokens=8, sample_temperature=1.5)
    generate_answers(sharded, tokenizer, examples, drawn, stop_ids=[2], seed=rank, sharded=True)
    print(f"process {rank}: equal")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
