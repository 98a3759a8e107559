"""Requests to a server that starts late, breaks off, is slow, or is something else."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hf_align.errors import UserError
from hf_align.rl.vllm import client as vllm_client
from hf_align.rl.vllm.client import Refused, VllmClient
from hf_align.sampling.options import Sampling

Answer = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]
SAMPLING = Sampling(max_new_tokens=4, temperature=0.5, top_p=0.9, top_k=7)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_client, "POLL_SECONDS", 0.01)
    monkeypatch.delenv("VLLM_API_KEY", raising=False)


@contextlib.contextmanager
def answering(answer: Answer, *, port: int = 0) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer(self, json.loads(body or b"{}"))

        do_GET = do_POST

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def reply(handler: BaseHTTPRequestHandler, content: Any, status: int = 200) -> None:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def choice(index: int, tokens: list[int], reason: str = "stop") -> dict[str, Any]:
    logps = [-0.5 * token for token in tokens]
    return {
        "index": index,
        "token_ids": tokens,
        "logprobs": {"token_logprobs": logps},
        "finish_reason": reason,
    }


def sample(client: VllmClient, prompts: list[list[int]], **given: Any) -> list[vllm_client.Continuation]:
    seeds = list(range(len(prompts)))
    options = {"stop_ids": [2], "seeds": seeds, "samples": 2, "in_flight": 3, **given}
    return client.sample("m", prompts, SAMPLING, **options)


def test_continuations_are_those_of_their_prompts() -> None:
    def answer(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        assert body["seed"] == body["prompt"][0] and body["model"] == "m"
        assert (body["temperature"], body["top_p"], body["top_k"], body["max_tokens"]) == (0.5, 0.9, 7, 4)
        time.sleep(0.02 * (3 - body["seed"]))  # the later prompts are done earlier
        first, second = choice(0, [10 + body["seed"], 2]), choice(1, [7, 7, 7, 7], "length")
        reply(handler, {"choices": [second, first]})

    with answering(answer) as url:
        found = sample(VllmClient(url + "/", timeout=5), [[0, 9], [1], [2, 5]])
    assert [one.prompt for one in found] == [0, 0, 1, 1, 2, 2]
    assert [one.tokens.tolist() for one in found[::2]] == [[10, 2], [11, 2], [12, 2]]
    assert [one.stopped for one in found] == [True, False] * 3
    assert found[1].logps.tolist() == [-3.5] * 4


def test_broken_connections_are_tried_again_and_not_for_ever() -> None:
    calls: list[int] = []

    def answer(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        calls.append(1)
        if len(calls) < broken:
            handler.connection.close()
            return
        reply(handler, {"choices": [choice(0, [2]), choice(1, [2])]})

    broken = 3
    with answering(answer) as url:
        assert len(sample(VllmClient(url, timeout=5), [[1]])) == 2
        assert len(calls) == 3
        broken = 100
        with pytest.raises(UserError, match=r"does not answer /v1/completions any more"):
            sample(VllmClient(url, timeout=5), [[1]])
    assert len(calls) == 3 + vllm_client.TRIES


def test_a_slow_answer_is_waited_for_once() -> None:
    calls: list[int] = []

    def answer(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        calls.append(1)
        time.sleep(0.5)

    with (
        answering(answer) as url,
        pytest.raises(UserError, match=r"no answer within the vllm_server_timeout"),
    ):
        sample(VllmClient(url, timeout=0.1), [[1]])
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"error": {"message": "Token id 9 is out of vocabulary", "code": 400}}, "Token id 9 is out of"),
        ({"detail": "Not Found"}, "Not Found"),
        (b"<html>Bad\n gateway</html>", "<html>Bad gateway</html>"),
        (b"\xff", "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_refusals_have_the_words_of_the_server(content: Any, message: str) -> None:
    with (
        answering(lambda handler, body: reply(handler, content, 400)) as url,
        pytest.raises(Refused) as caught,
    ):
        sample(VllmClient(url, timeout=5), [[1]])
    assert message in str(caught.value) and caught.value.status == 400


def test_a_server_that_starts_late_is_waited_for() -> None:
    states = iter([503, 503, 200])
    with answering(lambda handler, body: reply(handler, {}, next(states))) as url:
        VllmClient(url, timeout=5).wait()
    assert next(states, None) is None
    with pytest.raises(UserError, match=r"no server answers at .* within 0\.05 s \(vllm_server_timeout\)"):
        VllmClient(url, timeout=0.05).wait()


@pytest.mark.parametrize("content", [b"hello", [1], {"data": []}, {"data": [{"id": "a", "parent": "b"}]}])
def test_another_service_is_told_apart(content: Any) -> None:
    with answering(lambda handler, body: reply(handler, content)) as url:
        client = VllmClient(url, timeout=5)
        client.wait()
        with pytest.raises(UserError, match=r"vllm_server_base_url: .*expected the address of `vllm serve`"):
            client.model()


def test_the_model_is_told_from_its_adapters() -> None:
    cards = [
        {"id": "x", "parent": "m"},
        {"id": "m", "root": "/models/m", "parent": None, "max_model_len": 64},
    ]
    with answering(lambda handler, body: reply(handler, {"data": cards})) as url:
        assert VllmClient(url, timeout=5).model() == vllm_client.ServedModel("m", "/models/m", 64)


def test_the_key_is_sent_and_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "k1")
    seen: list[str | None] = []

    def answer(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        seen.append(handler.headers.get("Authorization"))
        handler.send_response(302)
        handler.send_header("Location", "/elsewhere")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with answering(answer) as url, pytest.raises(Refused):
        VllmClient(url, timeout=5).unload_adapter("a")
    assert seen == ["Bearer k1"]


def test_a_prefix_cache_that_stays_is_a_failure() -> None:
    with (
        answering(lambda handler, body: reply(handler, {"success": False})) as url,
        pytest.raises(Refused, match="prefix cache cannot be reset"),
    ):
        VllmClient(url, timeout=5).reload_weights(Path("w"))
