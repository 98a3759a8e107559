"""The HTTP interface of a vLLM server: sampling from token ids, and giving it other weights.

Plain requests, so that nothing of vLLM need be installed where a model is trained. What this leaves out:
which weights a server gets and when, and whether it serves the right model (``rollout``).
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_align.errors import UserError
from hf_align.modeling.http import WITHOUT_REDIRECTS
from hf_align.sampling.batch import Continuation
from hf_align.sampling.options import Sampling

logger = logging.getLogger(__name__)

TRIES = 3
"""How often a request is sent whose connection breaks; the seeds are in it, so that each gives the same."""
POLL_SECONDS = 1.0
STARTING = (502, 503)
"""What a server says, or the proxy before it, while it is not ready."""


class Refused(Exception):
    """The server's answer is an error. ``status``: of HTTP; the text is the server's own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class ServedModel:
    """``name``: in requests. ``root``: where the server has it from. ``max_length``: the most tokens of
    prompt and answer together, or None where it does not say."""

    name: str
    root: str
    max_length: int | None


class VllmClient:
    """One server. ``timeout``: seconds to wait for any one answer.

    Sends the key in the environment variable VLLM_API_KEY, if there is one, as ``vllm serve`` reads it.
    """

    def __init__(self, base_url: str, *, timeout: float) -> None:
        self.base_url = base_url.rstrip("/")
        self.timeout = timeout

    def wait(self) -> None:
        """Return once the server is up. Raises UserError where it is not within ``timeout``."""
        deadline = time.monotonic() + self.timeout
        said = False
        while True:
            try:
                self._send("GET", "/health", timeout=max(deadline - time.monotonic(), 0.1))
                return
            except Refused as error:
                if error.status not in STARTING:
                    return
                reason = str(error)
            except (OSError, http.client.HTTPException) as error:
                reason = _reason(error)
            if time.monotonic() + POLL_SECONDS >= deadline:
                raise UserError(
                    f"vllm_server_base_url: no server answers at {self.base_url} within {self.timeout:g} s "
                    f"(vllm_server_timeout): {reason}"
                )
            if not said:
                logger.info("waiting for the server at %s", self.base_url)
                said = True
            time.sleep(POLL_SECONDS)

    def model(self) -> ServedModel:
        """The model that the server was started with. Raises UserError where it is no vLLM server."""
        try:
            listed = self._json("GET", "/v1/models")["data"]
            # Adapters are listed with the model that they belong to as their parent.
            base = next(entry for entry in listed if not entry.get("parent"))
            limit = base.get("max_model_len")
            return ServedModel(
                base["id"], base.get("root") or base["id"], None if limit is None else int(limit)
            )
        except (Refused, KeyError, TypeError, ValueError, StopIteration) as error:
            raise UserError(
                f"vllm_server_base_url: what answers at {self.base_url} lists no model as a vLLM server does "
                f"({_reason(error)}); expected the address of `vllm serve`, without a path"
            ) from error

    def load_adapter(self, name: str, folder: Path) -> None:
        """Let the server load the LoRA adapter in ``folder`` as ``name``. Raises :class:`Refused`."""
        self._request("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)})

    def unload_adapter(self, name: str) -> None:
        """Let the server forget the adapter ``name``. Raises :class:`Refused`."""
        self._request("POST", "/v1/unload_lora_adapter", {"lora_name": name})

    def reload_weights(self, folder: Path) -> None:
        """Let the server read the weights of its model from ``folder`` anew. Raises :class:`Refused`."""
        self._request(
            "POST",
            "/collective_rpc",
            {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}},
        )
        # Keys and values of prompts were computed with the weights from before.
        if not self._json("POST", "/reset_prefix_cache", {}).get("success", True):
            raise Refused(500, "the prefix cache cannot be reset while other requests are running")

    def sample(
        self,
        model: str,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        *,
        stop_ids: Sequence[int],
        seeds: Sequence[int],
        samples: int,
        in_flight: int,
    ) -> list[Continuation]:
        """``samples`` continuations of each prompt, ordered by prompt, as ``modeling.sampling`` gives them.

        ``model``: the name of a model or adapter on the server. ``seeds``: one for each prompt, of at most 31
        bits; vLLM makes those of the prompt's samples from it. ``in_flight``: prompts asked at once. The
        log-probabilities are the server's, at temperature 1 or as sampled, by how it was started. Raises
        :class:`Refused` where the server refuses a prompt, and UserError where it does not answer.
        """
        request = {
            "model": model,
            "n": samples,
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            # A server takes what is not said from the model's own generation settings.
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "stop_token_ids": list(stop_ids),
            "ignore_eos": True,
            "logprobs": 0,
            "return_token_ids": True,
        }
        bodies = [
            request | {"prompt": [int(token) for token in prompt], "seed": seed}
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        with ThreadPoolExecutor(max_workers=max(1, min(in_flight, len(bodies)))) as pool:
            answers = list(pool.map(lambda body: self._json("POST", "/v1/completions", body), bodies))
        return [
            continuation
            for number, answer in enumerate(answers)
            for continuation in _continuations(number, answer, samples, stop_ids)
        ]

    def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        try:
            content = json.loads(self._request(method, path, body))
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise UserError(
                f"vllm_server_base_url: {self.base_url} answers {path} with something that is no JSON; "
                "expected the address of `vllm serve`, without a path"
            )
        return content

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        for tried in range(1, TRIES + 1):
            try:
                return self._send(method, path, body, timeout=self.timeout)
            except (OSError, http.client.HTTPException) as error:
                timed_out = isinstance(error, TimeoutError) or isinstance(
                    getattr(error, "reason", None), TimeoutError
                )
                if timed_out or tried == TRIES:
                    reason = "no answer within the vllm_server_timeout" if timed_out else _reason(error)
                    raise UserError(
                        f"the vLLM server at {self.base_url} does not answer {path} any more: {reason}"
                    ) from error
                time.sleep(POLL_SECONDS * tried)
        raise AssertionError("unreachable")

    def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, timeout: float
    ) -> bytes:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get("VLLM_API_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base_url + path, data, headers, method=method)
        try:
            with WITHOUT_REDIRECTS.open(request, timeout=timeout) as response:
                content: bytes = response.read()
                return content
        except urllib.error.HTTPError as error:
            with error:
                raise Refused(error.code, _message(error.read())) from None


def _message(content: bytes) -> str:
    """The server's own words, out of the forms in which it says them."""
    text = content.decode("utf-8", "replace")
    try:
        found = json.loads(text)
        found = found.get("error", found.get("detail", found))
        text = str(found.get("message", found) if isinstance(found, dict) else found)
    except (ValueError, AttributeError):
        pass
    return " ".join(text.split())[:1000]


def _reason(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return " ".join(str(reason).split()) or type(error).__name__


def _continuations(
    prompt: int, answer: Mapping[str, Any], samples: int, stop_ids: Sequence[int]
) -> list[Continuation]:
    """Raises UserError for an answer of another form than vLLM's."""
    try:
        choices = sorted(answer["choices"], key=lambda choice: int(choice["index"]))
        if len(choices) != samples:
            raise ValueError(f"{len(choices)} answers in place of {samples}")
        found = []
        for choice in choices:
            tokens = np.array(choice["token_ids"], dtype=np.int32)
            logps = np.array(choice["logprobs"]["token_logprobs"], dtype=np.float32)
            if not len(tokens) or tokens.shape != logps.shape or not np.isfinite(logps).all():
                raise ValueError(f"{len(tokens)} tokens with {len(logps)} log-probabilities")
            if choice["finish_reason"] not in ("stop", "length"):
                raise ValueError(f"an answer ended by '{choice['finish_reason']}'")
            found.append(Continuation(prompt, tokens, logps, int(tokens[-1]) in stop_ids))
        return found
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            "the server's answer to /v1/completions lacks the token ids or log-probabilities that it was "
            f"asked for ({type(error).__name__}: {error}); old releases of vLLM give no token ids"
        ) from error
