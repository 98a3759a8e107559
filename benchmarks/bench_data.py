"""Data preparation at size: rows and tokens per second, peak memory, and how long a second run takes.

Writes short synthetic instructions in the Alpaca form to a temporary folder, prepares them as a run would,
and prepares them again from the cache. Each run is a process of its own, started from nothing; its time
covers preparation, not the start of Python or the loading of the tokenizer. Memory is that of the process and
its workers, summed. The tokenizer is the model's where its folder exists, else one trained on the rows.

    python benchmarks/bench_data.py [--rows 1000000] [--processes N] [--model FOLDER]
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

WORDS = (
    "order lamp city rain green seven quick paper write list name colour answer stone river music explain "
    "short history water people number simple sentence country example because language morning question"
).split()
MAX_LENGTH = 512
VOCABULARY = 8192
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def write_rows(path: Path, rows: int) -> None:
    """Alpaca rows of 10 to 60 words, the same for the same number."""
    generator = random.Random(0)

    def words(least: int, most: int) -> str:
        return " ".join(generator.choices(WORDS, k=generator.randint(least, most)))

    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            row = {"instruction": f"{words(5, 14)}? {number}", "input": words(0, 10), "output": words(5, 36)}
            file.write(json.dumps(row) + "\n")


def save_small_tokenizer(folder: Path, sample: list[str]) -> None:
    """A byte-level BPE tokenizer with ChatML markers, for machines without the default model."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(sample, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=CHATML
    ).save_pretrained(folder)


def prepare_once(data: str, tokenizer: str, cache: str, processes: int | None) -> dict[str, Any]:
    """Prepare ``data`` in this process and return what was measured."""
    from common import MemoryWatch
    from transformers import AutoTokenizer

    from hf_align.config import DataConfig, DatasetConfig
    from hf_align.data.prepare import prepare_datasets
    from hf_align.data.store.workers import default_processes

    loaded = AutoTokenizer.from_pretrained(tokenizer)
    config = DataConfig(
        datasets=[DatasetConfig(path=data)],
        max_length=MAX_LENGTH,
        dataset_num_proc=processes,
        dataset_cache_dir=cache,
    )
    with MemoryWatch() as memory:
        started = time.perf_counter()
        prepared = prepare_datasets(config, loaded, seed=0)
        seconds = time.perf_counter() - started
    source = prepared.report.sources[0]
    return {
        "seconds": seconds,
        "rows": source.read,
        "tokens": source.tokens,
        "target_tokens": source.target_tokens,
        "peak_memory_bytes": memory.peak_bytes,
        "peak_memory_main_bytes": memory.peak_by_part[0],
        "peak_memory_workers_bytes": memory.peak_by_part[1],
        "processes": processes or default_processes(),
        "fingerprint": prepared.report.fingerprint,
    }


def run_once(arguments: list[str]) -> dict[str, Any]:
    """``prepare_once`` in a process of its own."""
    command = [sys.executable, __file__, "--once", *arguments]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    metrics: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=None, help="default: one for each usable core")
    parser.add_argument("--model", default="models/SmolLM2-135M-Instruct", help="folder with a tokenizer")
    parser.add_argument("--once", nargs=3, metavar=("DATA", "TOKENIZER", "CACHE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(prepare_once(*options.once, options.processes)))
        return
    with tempfile.TemporaryDirectory(prefix="bench-data-") as folder:
        data, tokenizer, cache = Path(folder, "rows.jsonl"), options.model, Path(folder, "cache")
        print(f"writing {options.rows:,} rows", flush=True)
        write_rows(data, options.rows)
        if not Path(tokenizer).is_dir():
            tokenizer = str(Path(folder, "tokenizer"))
            with data.open(encoding="utf-8") as file:
                save_small_tokenizer(Path(tokenizer), list(islice(file, 5000)))
        arguments = [str(data), tokenizer, str(cache)]
        if options.processes:
            arguments += ["--processes", str(options.processes)]
        first, second = run_once(arguments), run_once(arguments)
        disk = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
        size = data.stat().st_size
    if first["fingerprint"] != second["fingerprint"]:
        raise SystemExit("the second run has other rows than the first")
    raw = {
        "first": first,
        "second": second,
        "tokenizer": options.model if tokenizer == options.model else f"trained, {VOCABULARY} tokens",
        "data_bytes": size,
        "cache_bytes": disk,
        "max_length": MAX_LENGTH,
    }
    from common import write_results

    write_results(
        "data",
        raw,
        {
            "rows_per_second": first["rows"] / first["seconds"],
            "tokens_per_second": first["tokens"] / first["seconds"],
            "rows": first["rows"],
            "processes": first["processes"],
            "peak_memory_bytes": max(first["peak_memory_bytes"], second["peak_memory_bytes"]),
            "second_run_seconds": second["seconds"],
        },
    )


if __name__ == "__main__":
    main()
