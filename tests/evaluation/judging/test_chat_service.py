"""Replies come in the order of the conversations, and what is sent is what was asked for.

Refusals, second tries, redirects and the key are tested in test_win_rate.py, through the judge.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from hf_align.errors import UserError
from hf_align.evaluation.judging.chat_service import KEY_VARIABLE, ChatService
from hf_align.types import Message

SYSTEM = Message("system", "Answer with one word.")
CONVERSATIONS = [[SYSTEM, Message("user", f"What is {n} times 2?")] for n in range(8)]


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A service that doubles the number in the last message, and what it was sent."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", KEY_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    seen: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append({"path": self.path, **asked})
            number = int(asked["messages"][-1]["content"].split()[2])
            body = json.dumps({"choices": [{"message": {"content": str(2 * number)}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1", seen
    server.shutdown()
    server.server_close()


def test_replies_are_in_the_order_of_the_conversations(address: tuple[str, list[dict[str, Any]]]) -> None:
    url, seen = address
    counted: list[int] = []
    replies = ChatService(url, "some-model", requests=3).replies(CONVERSATIONS, progress=counted.append)
    assert replies == [str(2 * n) for n in range(8)]
    assert len(seen) == sum(counted) == 8
    body = min(seen, key=lambda each: each["messages"][-1]["content"])
    assert body == {
        "path": "/v1/chat/completions",
        "model": "some-model",
        "temperature": 0.0,
        "messages": [
            {"role": "system", "content": "Answer with one word."},
            {"role": "user", "content": "What is 0 times 2?"},
        ],
    }


def test_sampling_options_are_sent(address: tuple[str, list[dict[str, Any]]]) -> None:
    url, seen = address
    assert ChatService(f"{url}/", "m").replies(CONVERSATIONS[:1], temperature=0.7, max_tokens=8) == ["0"]
    assert (seen[0]["temperature"], seen[0]["max_tokens"]) == (0.7, 8)
    assert seen[0]["path"] == "/v1/chat/completions"


def test_an_address_where_nobody_answers_is_named() -> None:
    service = ChatService("http://127.0.0.1:9/v1", "m", pause=0.0, timeout=2)
    with pytest.raises(UserError, match=r"^url: http://127\.0\.0\.1:9/v1 cannot be reached"):
        service.replies(CONVERSATIONS[:1])
