"""A server that speaks as vLLM does and samples with a model of its own, by this package's engine.

Weights reach it as they reach vLLM: as an adapter or as a whole model in a folder. Only what the client uses
is answered; the forms of requests, answers and errors are those of vLLM 0.32.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from hf_align.sampling.continuations import sample_continuations
from hf_align.sampling.options import Sampling


class StubServer:
    """``folder``: the model that it serves. ``requests``: every (path, body) so far.

    ``raw``: log-probabilities are those at temperature 1, as vLLM gives them by default. ``offset``: added to
    every log-probability. ``adapters`` and ``reloads``: what it has been allowed to load;
    ``ignores_adapters``: it loads them and samples without. ``spoil``: changes an answer before it is sent.
    ``key``: what it wants to be shown.
    """

    def __init__(self, folder: str, *, max_length: int = 256) -> None:
        self.folder, self.max_length = folder, max_length
        self.base = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.loaded: dict[str, Any] = {}
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.raw, self.offset = True, 0.0
        self.adapters = self.reloads = True
        self.spoil: Callable[[dict[str, Any]], Any] = lambda answer: answer
        self.ignores_adapters = False
        self.key = ""
        self.url = ""
        self._lock = threading.Lock()

    def asked(self, path: str) -> list[dict[str, Any]]:
        return [body for where, body in self.requests if where == path]

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """(status, content)."""
        with self._lock:
            self.requests.append((path, body))
            return self._answers()[path](body) if path in self._answers() else error(404, "Not Found")

    def _answers(self) -> dict[str, Callable[[dict[str, Any]], tuple[int, Any]]]:
        found = {
            "/health": lambda body: (200, ""),
            "/v1/models": self._models,
            "/v1/completions": self._sample,
        }
        if self.adapters:
            found |= {"/v1/load_lora_adapter": self._load, "/v1/unload_lora_adapter": self._unload}
        if self.reloads:
            found |= {
                "/collective_rpc": self._reload,
                "/reset_prefix_cache": lambda body: (200, {"success": True}),
            }
        return found

    def _models(self, body: dict[str, Any]) -> tuple[int, Any]:
        cards = [{"id": name, "parent": self.folder, "root": "?"} for name in self.loaded]
        base = {"id": self.folder, "root": self.folder, "parent": None, "max_model_len": self.max_length}
        return 200, {"object": "list", "data": [*cards, base]}

    def _load(self, body: dict[str, Any]) -> tuple[int, Any]:
        name, folder = body["lora_name"], Path(body["lora_path"])
        if not (folder / "adapter_config.json").is_file():
            return error(404, f"Loading lora {name} failed: No adapter found for {folder}")
        if name in self.loaded:
            return error(400, f"The lora adapter '{name}' has already been loaded.")
        base = AutoModelForCausalLM.from_pretrained(self.folder)
        self.loaded[name] = base if self.ignores_adapters else PeftModel.from_pretrained(base, folder).eval()
        return 200, f"Success: LoRA adapter '{name}' added successfully."

    def _unload(self, body: dict[str, Any]) -> tuple[int, Any]:
        if self.loaded.pop(body["lora_name"], None) is None:
            return error(404, f"The lora adapter '{body['lora_name']}' cannot be found.")
        return 200, "Success"

    def _reload(self, body: dict[str, Any]) -> tuple[int, Any]:
        assert body["method"] == "reload_weights"
        self.base = AutoModelForCausalLM.from_pretrained(body["kwargs"]["weights_path"]).eval()
        return 200, {"results": [None]}

    def _sample(self, body: dict[str, Any]) -> tuple[int, Any]:
        model = self.base if body["model"] == self.folder else self.loaded.get(body["model"])
        if model is None:
            return error(404, f"The model `{body['model']}` does not exist.")
        prompt = body["prompt"]
        if len(prompt) + body["max_tokens"] > self.max_length:
            return error(400, f"max_tokens={body['max_tokens']} cannot be greater than {self.max_length}")
        # vLLM gives the samples of a prompt seed, seed + 1, …
        shape = (1, body["max_tokens"])
        draws = [np.random.default_rng(body["seed"] + i).random(shape) for i in range(body["n"])]
        found = sample_continuations(
            model,
            [prompt] * body["n"],
            Sampling(body["max_tokens"], body["temperature"], body["top_p"], body["top_k"]),
            stop_ids=body["stop_token_ids"],
            pad_token_id=0,
            draws=torch.from_numpy(np.stack(draws)),
        )
        choices = []
        for index, one in enumerate(found):
            tokens = one.tokens.tolist()
            logps = logps_at_one(model, prompt, tokens) if self.raw else one.logps.tolist()
            choices.append(
                {
                    "index": index,
                    "text": "",
                    "token_ids": tokens,
                    "logprobs": {"token_logprobs": [float(logp) + self.offset for logp in logps]},
                    "finish_reason": "stop" if one.stopped else "length",
                    "stop_reason": tokens[-1] if one.stopped else None,
                }
            )
        return 200, self.spoil({"object": "text_completion", "model": body["model"], "choices": choices})


@torch.no_grad()
def logps_at_one(model: Any, prompt: list[int], tokens: list[int]) -> list[float]:
    logits = model(torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 : -1]
    scaled = torch.log_softmax(logits.float(), dim=-1)
    return scaled[torch.arange(len(tokens)), torch.tensor(tokens)].tolist()


def error(status: int, message: str) -> tuple[int, Any]:
    return status, {"error": {"message": message, "type": "Error", "param": None, "code": status}}


@contextlib.contextmanager
def serving(folder: str, **options: Any) -> Iterator[StubServer]:
    """A stub that listens on a free port of this machine."""
    stub = StubServer(folder, **options)

    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            if stub.key and self.headers.get("Authorization") != f"Bearer {stub.key}":
                status, content = error(401, "Unauthorized")
            else:
                status, content = stub.answer(self.path, body)
            data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _reply

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    stub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
