"""lm-eval in tests: small tasks, read without a network, and models of lm-eval of both kinds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from helpers.tiny_checkpoint import save_tiny_checkpoint, tiny_tokenizer
from tokenizers import processors
from transformers import AutoModelForCausalLM

from hf_align.evaluation.scoring import make_scorer

if TYPE_CHECKING:
    from lm_eval.models.huggingface import HFLM

    from hf_align.evaluation.lm_eval.bridge import EngineLM

CONTEXT = 96
"""Positions of the tiny models."""


def write_task(folder: Path, name: str, rows: Sequence[Mapping[str, Any]], **settings: Any) -> str:
    """A task called ``name`` in ``folder``; ``settings`` go into its file, which is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "fewshot_split": "test",
        "metadata": {"version": 2.0},
        **settings,
    }
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(task))
    return str(path)


def metrics(*names: str, higher_is_better: bool = True, aggregation: str = "mean") -> list[dict[str, Any]]:
    """Entries of ``metric_list``."""
    settings = {"higher_is_better": higher_is_better, "aggregation": aggregation}
    return [{"metric": name, **settings} for name in names]


def write_choice_task(folder: Path, name: str, questions: Sequence[tuple[str, Sequence[str], int]]) -> str:
    """Multiple choice: (prompt, the continuations as they stand, the number of the right one)."""
    rows = [
        {"prompt": prompt, "choices": list(choices), "answer": right} for prompt, choices, right in questions
    ]
    return write_task(
        folder,
        name,
        rows,
        output_type="multiple_choice",
        doc_to_text="{{prompt}}",
        doc_to_choice="choices",
        doc_to_target="answer",
        target_delimiter="",
        metric_list=metrics("acc", "acc_norm"),
    )


def write_tasks(folder: Path) -> None:
    """A task for each kind of request, and a group."""
    rows = [{"text": f"Please send {i} lamps to Oslo.", "city": "Oslo"} for i in range(4)]
    common = {"doc_to_text": "Where do lamps go?", "doc_to_target": "{{city}}"}
    questions = [("Where do lamps go?", (" Oslo", " Rome now"), 0), ("And twelve?", (" Oslo", " Rome"), 1)]
    write_choice_task(folder, "cities", questions)
    write_choice_task(folder, "towns", questions[:1])
    bits = metrics("bits_per_byte", higher_is_better=False, aggregation="bits_per_byte")
    write_task(
        folder,
        "texts",
        rows,
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_target="{{text}}",
        metric_list=bits,
    )
    first_word = [{"function": "regex", "regex_pattern": r"(\w+)"}, {"function": "take_first"}]
    write_task(
        folder,
        "answers",
        rows,
        **common,
        output_type="generate_until",
        generation_kwargs={"until": ["\n"], "max_gen_toks": 4},
        metric_list=metrics("exact_match"),
        filter_list=[{"name": "first_word", "filter": first_word}],
    )
    (folder / "places.yaml").write_text(
        json.dumps(
            {
                "group": "places",
                "task": ["cities", "towns"],
                "aggregate_metric_list": [{"metric": "acc", "aggregation": "mean", "weight_by_size": True}],
            }
        )
    )


def with_bos() -> Any:
    """A tokenizer that puts a token before every text."""
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", tokenizer.bos_token_id)]
    )
    return tokenizer


@contextmanager
def no_bar(*_: Any) -> Iterator[Any]:
    yield lambda count: None


def engine(model: Any, tokenizer: Any = None, **options: Any) -> EngineLM:
    """Our model of lm-eval; ``options`` go to the scorer."""
    from hf_align.evaluation.lm_eval.bridge import EngineLM

    scorer = make_scorer(model, tokenizer or tiny_tokenizer(), precision="fp32", **options)
    return EngineLM(scorer, seed=1, max_rows=4, bar=no_bar)


def theirs(model: Any, tokenizer: Any = None) -> HFLM:
    """lm-eval's own class around the same model."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=model, tokenizer=tokenizer or tiny_tokenizer(), batch_size=3)


def asked(*arguments: tuple[Any, ...]) -> list[Any]:
    """Requests as lm-eval makes them."""
    return [SimpleNamespace(args=each) for each in arguments]


PAIRS = asked(
    ("Where do lamps go?", " Oslo"),
    ("Where do lamps go?", " Rome now"),
    ("Where do lamps go? ", "Rome now"),
    ("", "twelve lamps to Oslo"),
    ("<|im_start|>user", " Oslo"),
    ("Please send twelve lamps to Oslo. " * 9, "Thank you."),
    ("Please send twelve lamps to Oslo. " * 9, "Thank you. And a lamp."),
    ("你好，", "世界。"),
    ("Where do lamps go?", " Oslo"),
)
"""Contexts with continuations: shared, empty, ending in a space, too long for 96 tokens, and one twice."""


def saved(folder: Path) -> Path:
    """``folder`` with a tiny model under ``base``, whose answers differ enough to be told apart."""
    save_tiny_checkpoint(folder / "base", initializer_range=0.3, max_position_embeddings=CONTEXT)
    return folder


def loaded(folder: Path) -> Any:
    """The model under ``base``."""
    return AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32).eval()
