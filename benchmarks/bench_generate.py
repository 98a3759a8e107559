"""Sampling: this project's engine against transformers' ``model.generate``, tokens per second.

Temperature 1, neither top-k nor top-p, and no token that ends an answer, so that both sides write exactly 64
new tokens to every prompt. bf16 where the machine is fast at it. The contests:

    batch     16 prompts of at most 96 tokens, one answer each
    shared    16 answers to one prompt of 256 tokens (``num_return_sequences`` on the other side)
    lora      batch with a LoRA adapter that is not zero, rank 16 on all linear layers: what PPO samples from

Both sides have a model of their own in one process and take turns in every contest; the first turn is a
warm-up and is not counted, the metrics are medians of the others. ``generate`` keeps transformers' default
attention. What the engine gives beside the tokens, their log-probabilities, is counted against it. With an
adapter it computes as PPO does, in autocast over float32 adapter weights; the other side has the adapter in
the type of the model, which is its faster way.

    python benchmarks/bench_generate.py [--data FILE] [--repeats 5] [--model FOLDER]
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

ROWS, PROMPT, NEW_TOKENS = 16, 256, 64
TARGETS = {"batch": 1.5, "shared": 2.5}
Sampler = Callable[[Sequence[Sequence[int]], int], int]
"""(prompts, answers to each) to the number of tokens written."""


def our_sampler(model: Any, *, autocast: Any = None) -> Sampler:
    """The engine on ``model``, which has segment attention. ``autocast``: the type to compute in."""
    import torch

    from hf_align.sampling.continuations import sample_continuations
    from hf_align.sampling.options import Sampling

    def sample(prompts: Sequence[Sequence[int]], samples: int) -> int:
        enabled = autocast is not None
        with torch.autocast(model.device.type, dtype=autocast) if enabled else contextlib.nullcontext():
            found = sample_continuations(
                model,
                prompts,
                Sampling(NEW_TOKENS, temperature=1.0),
                stop_ids=(),
                pad_token_id=0,
                samples=samples,
            )
        return sum(len(one.tokens) for one in found)

    return sample


def their_sampler(model: Any) -> Sampler:
    """``generate`` on left-padded prompts."""
    import torch
    from transformers import GenerationConfig

    # An unset value of the call would be taken from here.
    model.generation_config = GenerationConfig(pad_token_id=0)
    chosen = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "pad_token_id": 0}

    def sample(prompts: Sequence[Sequence[int]], samples: int) -> int:
        width = max(map(len, prompts))
        ids = torch.zeros(len(prompts), width, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        written = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=GenerationConfig(
                max_new_tokens=NEW_TOKENS, num_return_sequences=samples, **chosen
            ),
        )
        return int(written.shape[0] * (written.shape[1] - width))

    return sample


def make_contests(data: str, name: str) -> dict[str, tuple[Sampler, Sampler, list[tuple[int, ...]], int]]:
    """By name: our sampler, theirs, the prompts, and how many answers to each."""
    import torch
    from prompts import short_prompts
    from transformers import AutoModelForCausalLM

    from hf_align.adapters.factory import apply_adapter
    from hf_align.config import AdapterConfig, ModelConfig
    from hf_align.modeling.attention.packing_probe import enable_segment_attention
    from hf_align.modeling.loading import load_model
    from hf_align.modeling.precision import compute_dtype, resolve_precision, runs_on_cpu
    from hf_align.runs import processes

    use_cpu = runs_on_cpu(False)
    processes.start(use_cpu=use_cpu)
    precision = resolve_precision("auto", use_cpu=use_cpu)
    dtype, device = compute_dtype(precision), torch.device("cpu" if use_cpu else "cuda")

    def ours() -> Any:
        model = load_model(ModelConfig(name), trainable_base=False, precision=precision, use_cpu=use_cpu)
        if not enable_segment_attention(model):
            raise SystemExit("the benchmark needs a model that can be packed")
        return model.to(device).eval()

    def theirs() -> Any:
        return AutoModelForCausalLM.from_pretrained(name, dtype=dtype).to(device).eval()

    adapted = apply_adapter(ours(), AdapterConfig(adapter="lora", lora_r=16)).to(device).eval()
    theirs_adapted = apply_adapter(theirs(), AdapterConfig(adapter="lora", lora_r=16)).to(device).eval()
    weights = dict(adapted.named_parameters())
    torch.manual_seed(0)
    with torch.no_grad():
        for key, parameter in theirs_adapted.named_parameters():
            if "lora_" in key:
                weights[key].normal_(0.0, 0.02)
                parameter.copy_(weights[key])
    theirs_adapted.to(dtype)

    short = [prompt.ids for prompt in short_prompts(data, name, ROWS)]
    joined = [token for ids in short for token in ids]
    if len(joined) < PROMPT:
        raise SystemExit(f"{data}: the first {ROWS} prompts have fewer than {PROMPT} tokens in all")
    plain = our_sampler(ours()), their_sampler(theirs())
    lowered = None if precision == "fp32" else dtype
    return {
        "batch": (*plain, short, 1),
        "shared": (*plain, [tuple(joined[:PROMPT])], ROWS),
        "lora": (our_sampler(adapted, autocast=lowered), their_sampler(theirs_adapted), short, 1),
    }


def timed(sample: Sampler, prompts: Sequence[Sequence[int]], samples: int) -> float:
    """Seconds for the prompts. Ends the benchmark where a side did not write what was asked."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    begun = time.perf_counter()
    tokens = sample(prompts, samples)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    seconds = time.perf_counter() - begun
    expected = len(prompts) * samples * NEW_TOKENS
    if tokens != expected:
        raise SystemExit(f"{tokens} tokens were written instead of {expected}")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="data/orders_en.jsonl", help="rows; default: %(default)s")
    parser.add_argument("--model", default="models/SmolLM2-135M-Instruct")
    parser.add_argument("--repeats", type=int, default=5, help="turns; the first one is not counted")
    options = parser.parse_args()
    if options.repeats < 2:
        parser.error("--repeats: the first turn is a warm-up; give at least 2")
    import torch
    from common import write_results

    contests = make_contests(options.data, options.model)
    seconds: dict[str, dict[str, list[float]]] = {name: {"ours": [], "generate": []} for name in contests}
    for turn in range(options.repeats):
        for name, (ours, theirs, prompts, samples) in contests.items():
            mine, other = timed(ours, prompts, samples), timed(theirs, prompts, samples)
            seconds[name]["ours"].append(mine)
            seconds[name]["generate"].append(other)
            print(
                f"{turn + 1}/{options.repeats} {name}: {mine:.2f} s, generate {other:.2f} s"
                + (" (warm-up)" if turn == 0 else ""),
                flush=True,
            )

    medians = {
        name: {side: statistics.median(times[1:]) for side, times in sides.items()}
        for name, sides in seconds.items()
    }
    tokens = ROWS * NEW_TOKENS
    summary: dict[str, float | int | str] = {
        f"ratio_{name}": round(both["generate"] / both["ours"], 2) for name, both in medians.items()
    }
    summary |= {
        f"tokens_per_second_{name}": round(tokens / both["ours"], 1) for name, both in medians.items()
    }
    raw = {
        "seconds": seconds,
        "tokens": tokens,
        "prompt_tokens": {name: [len(ids) for ids in contest[2]] for name, contest in contests.items()},
        "generate_tokens_per_second": {name: tokens / both["generate"] for name, both in medians.items()},
        "targets": {f"ratio_{name}": target for name, target in TARGETS.items()},
        "threads": torch.get_num_threads(),
        "data": options.data,
        "model": options.model,
    }
    write_results("generate", raw, summary)


if __name__ == "__main__":
    main()
