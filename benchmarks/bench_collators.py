"""Pre-training collators: tokens per second against transformers' own, and their share of a training step.

Python's documentation, tokenised by a byte-level BPE trained on it, in batches of 32 rows of 128 tokens,
given as lists of integers to both sides, as a tokenizer returns them. transformers'
``DataCollatorForLanguageModeling`` gets the ``special_tokens_mask`` that its own documentation recommends for
speed. All contenders run in this process on one thread and take turns; metrics are medians of processor time,
since elapsed time on a busy machine grows more for a call that is long enough to be interrupted. The step is
forward, backward and AdamW of a model of 2 layers, 128 wide.

    python benchmarks/bench_collators.py [--turns 20] [--steps 10]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

ROWS, LENGTH, VOCABULARY, TURN = 32, 128, 8192, 10
SENTINELS = 100
PEER, PEER_WORDS = "transformers_mlm", "transformers_wwm"


def documentation() -> list[str]:
    """What Python documents about itself: the language topics and the docstrings of common modules."""
    import importlib
    from pydoc_data.topics import topics

    names = (
        "argparse",
        "asyncio",
        "collections",
        "datetime",
        "json",
        "logging",
        "os",
        "pathlib",
        "random",
        "re",
    )
    modules = [importlib.import_module(name) for name in names]
    texts = [getattr(value, "__doc__", None) for module in modules for value in vars(module).values()]
    return [*topics.values(), *(text for text in texts if isinstance(text, str) and len(text) > 200)]


def train_tokenizer(texts: list[str]) -> Any:
    """Byte-level BPE with the special tokens of every objective."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    )
    fast.add_tokens([f"<extra_id_{i}>" for i in range(SENTINELS)], special_tokens=True)
    return fast


def encode_rows(tokenizer: Any, texts: list[str]) -> list[dict[str, Any]]:
    """As many rows of ``LENGTH`` tokens as the texts give, at most 16 batches, all documents in one line."""
    encoded = tokenizer(
        "\n".join(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    inner, rows = LENGTH - 2, []
    for start in range(0, len(ids) - inner + 1, inner):
        rows.append(
            {
                "input_ids": [tokenizer.bos_token_id, *ids[start : start + inner], tokenizer.eos_token_id],
                "special_tokens_mask": [1] + [0] * inner + [1],
                "offset_mapping": [(0, 0), *offsets[start : start + inner], (0, 0)],
                "index": len(rows),
            }
        )
    rows = rows[: 16 * ROWS]
    return rows[: len(rows) // ROWS * ROWS]


def contenders(tokenizer: Any) -> dict[str, Callable[[list[dict[str, Any]]], Any]]:
    """Name to a function of one batch of rows."""
    import warnings

    from transformers import DataCollatorForLanguageModeling

    from hf_align.pretraining.collators import OBJECTIVES, make_collator

    plain = DataCollatorForLanguageModeling(tokenizer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it drops the random replacements is said in the report
        words = DataCollatorForLanguageModeling(tokenizer, whole_word_mask=True)

    def theirs(collator: Any, names: tuple[str, ...]) -> Callable[[list[dict[str, Any]]], Any]:
        return lambda rows: collator([{name: row[name] for name in names} for row in rows])

    def pairs(collator: Any) -> Callable[[list[dict[str, Any]]], Any]:
        half = LENGTH // 2
        return lambda rows: collator(
            [
                {
                    "first": row["input_ids"][1:half],
                    "second": row["input_ids"][half : LENGTH - 2],
                    "label": 0,
                    "index": row["index"],
                }
                for row in rows
            ]
        )

    found: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
        PEER: theirs(plain, ("input_ids", "special_tokens_mask")),
        PEER_WORDS: theirs(words, ("input_ids", "special_tokens_mask", "offset_mapping")),
    }
    for name, entry in OBJECTIVES.items():
        collator = make_collator(name, tokenizer)
        found[name] = pairs(collator) if entry.examples == "pairs" else collator
    found["wwm_bernoulli"] = make_collator("wwm", tokenizer, selection="bernoulli")
    return found


def time_collators(tokenizer: Any, rows: list[dict[str, Any]], turns: int) -> dict[str, dict[str, float]]:
    """Processor seconds a batch, in turns of ``TURN`` batches after one that does not count."""
    functions = contenders(tokenizer)
    batches = [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)]
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(turns):
        for name, function in functions.items():
            for number in range(TURN + 1):
                batch = batches[(turn * TURN + number) % len(batches)]
                started = time.process_time()
                function(batch)
                if number:
                    seconds[name].append(time.process_time() - started)
    return {
        name: {
            "seconds": statistics.median(times),
            "least_seconds": min(times),
            "most_seconds": max(times),
            "tokens_per_second": ROWS * LENGTH / statistics.median(times),
        }
        for name, times in seconds.items()
    }


def tiny_models(tokenizer: Any) -> dict[str, Any]:
    """A model of 2 layers, 128 wide, for three of the objectives."""
    from transformers import (
        BartConfig,
        BartForConditionalGeneration,
        BertConfig,
        BertForMaskedLM,
        T5Config,
        T5ForConditionalGeneration,
    )

    size = len(tokenizer)
    bert = BertConfig(
        vocab_size=size, hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512
    )
    t5 = T5Config(vocab_size=size, d_model=128, d_kv=64, d_ff=512, num_layers=2, num_heads=2)
    t5.decoder_start_token_id = t5.pad_token_id = tokenizer.pad_token_id
    bart = BartConfig(
        vocab_size=size,
        d_model=128,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=512,
        decoder_ffn_dim=512,
        pad_token_id=tokenizer.pad_token_id,
        decoder_start_token_id=tokenizer.eos_token_id,
    )
    return {
        "wwm": BertForMaskedLM(bert),
        "span_corruption": T5ForConditionalGeneration(t5),
        "text_infilling": BartForConditionalGeneration(bart),
    }


def time_steps(tokenizer: Any, rows: list[dict[str, Any]], steps: int) -> dict[str, dict[str, float]]:
    """Seconds of a training step on all cores, and of the batch that it trains on."""
    import torch

    from hf_align.pretraining.collators import make_collator

    metrics = {}
    for name, model in tiny_models(tokenizer).items():
        collator = make_collator(name, tokenizer)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
        collating, training = [], []
        for step in range(steps + 2):
            begun = time.perf_counter()
            batch = collator(rows[:ROWS])
            collated = time.perf_counter()
            optimizer.zero_grad()
            model(**batch).loss.backward()
            optimizer.step()
            if step >= 2:
                collating.append(collated - begun)
                training.append(time.perf_counter() - collated)
        seconds, step_seconds = statistics.median(collating), statistics.median(training)
        metrics[name] = {
            "collate_seconds": seconds,
            "step_seconds": step_seconds,
            "share": seconds / (seconds + step_seconds),
        }
    return metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--turns", type=int, default=20, help="of every contender, each of ten batches")
    parser.add_argument("--steps", type=int, default=10, help="training steps a model")
    options = parser.parse_args()
    import torch
    from common import write_results

    texts = documentation()
    tokenizer = train_tokenizer(texts)
    rows = encode_rows(tokenizer, texts)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    speeds = time_collators(tokenizer, rows, options.turns)
    peer = speeds[PEER]["seconds"]
    for name, metrics in speeds.items():
        millions = metrics["tokens_per_second"] / 1e6
        print(f"{name:<18} {millions:7.2f} M tokens/s  {peer / metrics['seconds']:6.2f} x", flush=True)
    torch.set_num_threads(threads)
    steps = time_steps(tokenizer, rows, options.steps)
    for name, metrics in steps.items():
        print(
            f"{name:<18} step {metrics['step_seconds'] * 1e3:.1f} ms, collator {metrics['share']:.2%} of it"
        )
    write_results(
        "collators",
        {"batch_rows": ROWS, "row_tokens": LENGTH, "rows": len(rows), "collators": speeds, "steps": steps},
        {
            "ratio_mlm": peer / speeds["mlm"]["seconds"],
            "ratio_wwm": peer / speeds["wwm"]["seconds"],
            "ratio_wwm_bernoulli": peer / speeds["wwm_bernoulli"]["seconds"],
            "peer_tokens_per_second": speeds[PEER]["tokens_per_second"],
            "wwm_tokens_per_second": speeds["wwm"]["tokens_per_second"],
            "span_mlm_tokens_per_second": speeds["span_mlm"]["tokens_per_second"],
            "t5_tokens_per_second": speeds["span_corruption"]["tokens_per_second"],
            "bart_tokens_per_second": speeds["text_infilling"]["tokens_per_second"],
            "most_step_share": max(metrics["share"] for metrics in steps.values()),
        },
    )


if __name__ == "__main__":
    main()
