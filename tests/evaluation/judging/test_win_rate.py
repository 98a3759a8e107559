"""Win rates by hand, and a judge behind a stub of an OpenAI-compatible service."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from hf_align.data.chat.prompts import Prompt
from hf_align.errors import UserError
from hf_align.evaluation.answering import Asked, Reply
from hf_align.evaluation.judging import chat_service
from hf_align.evaluation.judging.answer_comparison import judged
from hf_align.evaluation.judging.judge import Judge
from hf_align.evaluation.judging.win_rate import by_scores, by_verdicts, win_metrics
from hf_align.sampling.answers import Answer
from hf_align.types import Example, Message

KEY = "sk-secret-0123456789abcdefghij"


def test_by_scores():
    assert by_scores([1.0, 2.0, 3.0], [2.0, 2.0, -1.0]).tolist() == [0.0, 0.5, 1.0]
    with pytest.raises(ValueError, match="one length"):
        by_scores([1.0], [1.0, 2.0])


def test_both_orders_have_to_agree():
    forward = ["first", "first", "second", "tie", "unreadable", "tie"]
    backward = ["second", "first", "first", "tie", "second", "unreadable"]
    outcomes, found = by_verdicts(forward, backward)  # type: ignore[arg-type]
    # Won in both orders; only when first; lost in both; tied in both; once unreadable; unreadable and a tie.
    assert outcomes.tolist() == [1.0, 0.5, 0.0, 0.5, 0.5, 0.5]
    # Of the four prompts with a verdict in both orders, the second is another one's in each.
    assert found["consistent"] == pytest.approx(3 / 4)
    assert found["first_place"] == pytest.approx(4 / 7)
    assert found["unreadable"] == pytest.approx(2 / 12)
    assert by_verdicts(["tie"], ["tie"])[1]["first_place"] is None


def test_metrics_by_hand():
    found = win_metrics(np.array([1.0, 1.0, 0.5, 0.0]), seed=1)
    assert (found["win_rate"], found["wins"], found["ties"], found["losses"]) == (0.625, 0.5, 0.25, 0.25)
    low, high = found["win_rate_interval"]
    assert 0.1 <= low < 0.625 < high <= 1.0
    half = np.array([1.0] * 200 + [0.0] * 200)
    # The normal interval of a share of one half among 400.
    assert win_metrics(half, seed=1)["win_rate_interval"] == pytest.approx([0.451, 0.549], abs=0.01)
    assert win_metrics(np.ones(8), seed=1)["win_rate_interval"] == pytest.approx([0.6756, 1.0], abs=1e-4)
    assert win_metrics(np.zeros(0), seed=1) == {"prompts": 0}


class Service:
    """A stub: ``answer`` maps (path, headers, body) to (status, body); what came is in ``seen``."""

    def __init__(self, answer: Any) -> None:
        self.seen: list[tuple[str, dict[str, str], Any]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                service.seen.append((self.path, dict(self.headers), body))
                status, reply, *headers = answer(len(service.seen), body)
                content = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def judge(self, **options: Any) -> Judge:
        return Judge(self.url, "judge-1", pause=0.0, timeout=10, **options)


@pytest.fixture
def serve(monkeypatch) -> Iterator[Any]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", chat_service.KEY_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running: list[Service] = []

    def start(answer: Any) -> Service:
        running.append(Service(answer))
        return running[-1]

    yield start
    for service in running:
        service.server.shutdown()
        service.server.server_close()


def chat(text: str) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": text}}]}


def prefers_oslo(_: int, body: Any) -> tuple[int, Any]:
    text = body["messages"][0]["content"]
    first = text.partition("[Answer 1]")[2].partition("[Answer 2]")[0]
    second = text.partition("[Answer 2]")[2].partition("Say in one")[0]
    winner = "1" if "Oslo" in first else "2" if "Oslo" in second else "tie"
    return 200, chat(f"It names the city.\nVerdict: {winner}")


PAIRS = [("Where {to}?", "Oslo", "Rome"), ("Where?", "Lima", "Oslo"), ("Where?", "Lima", "Rome")]


def test_replies_without_a_verdict_are_not_consistent():
    outcomes, found = by_verdicts(["unreadable", "first", "first"], ["unreadable", "unreadable", "second"])
    # A prompt of which no order has a verdict says nothing; it is no tie.
    assert outcomes.tolist() == [0.5, 1.0]
    assert (found["consistent"], found["unreadable"]) == (1.0, 0.5)
    assert not len(by_verdicts(["refused"], ["unreadable"])[0])
    assert by_verdicts(["unreadable"], ["unreadable"])[1]["consistent"] is None


def test_a_judge_is_asked_about_every_pair_in_order(serve):
    service = serve(prefers_oslo)
    counted: list[int] = []
    assert service.judge().compare(PAIRS * 4, counted.append) == ["first", "second", "tie"] * 4
    assert len(service.seen) == len(counted) == 12
    path, headers, body = service.seen[0]
    assert path == "/v1/chat/completions" and "Authorization" not in headers
    assert (body["model"], body["temperature"]) == ("judge-1", 0)
    assert any("Where {to}?" in seen["messages"][0]["content"] for _, _, seen in service.seen)


def test_the_key_goes_into_the_header_and_nowhere_else(serve, monkeypatch, caplog, capsys):
    monkeypatch.setenv(chat_service.KEY_VARIABLE, KEY)
    service = serve(lambda count, body: (401, {"error": {"message": f"Incorrect API key: {KEY}"}}))
    with pytest.raises(UserError, match=r"replied 401 .* environment variable OPENAI_API_KEY") as error:
        service.judge().compare(PAIRS[:1])
    assert service.seen[0][1]["Authorization"] == f"Bearer {KEY}"
    said = [str(error.value), repr(error.value.__cause__), caplog.text, *capsys.readouterr()]
    assert not any(KEY in text for text in said)
    assert len(service.seen) == 1


def test_what_may_pass_is_tried_again(serve):
    service = serve(lambda n, body: (503, {}) if n < 3 else prefers_oslo(n, body))
    assert service.judge(requests=1).compare(PAIRS[:1]) == ["first"]
    assert len(service.seen) == 3
    always = serve(lambda n, body: (429, {}))
    with pytest.raises(UserError, match="replied 429"):
        always.judge(requests=1).compare(PAIRS[:1])
    assert len(always.seen) == chat_service.TRIES


def test_one_refused_request_costs_its_pair_alone(serve):
    def answer(n: int, body: Any) -> tuple[int, Any]:
        return (400, {}) if "Lima" in str(body) and "Rome" in str(body) else prefers_oslo(n, body)

    service = serve(answer)
    assert service.judge().compare(PAIRS) == ["first", "second", "refused"]
    assert len(service.seen) == 3


def test_the_recipe_s_parameters_are_sent(serve):
    service = serve(prefers_oslo)
    service.judge(temperature=None, parameters={"max_tokens": 9}).compare(PAIRS[:1])
    body = service.seen[0][2]
    assert body["max_tokens"] == 9 and "temperature" not in body


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda n, b: (404, {}), "replied 404 .*usually ends in /v1"),
        (lambda n, b: (200, {"text": "x"}), "another form than chat completions have; found the keys text"),
        (lambda n, b: (200, b"<html>"), "something that is no JSON"),
    ],
)
def test_a_service_of_another_kind_is_named(serve, answer, words):
    with pytest.raises(UserError, match=words):
        serve(answer).judge().compare(PAIRS)


def test_redirects_are_not_followed(serve, monkeypatch):
    monkeypatch.setenv(chat_service.KEY_VARIABLE, KEY)
    elsewhere = serve(prefers_oslo)
    service = serve(lambda n, b: (307, {}, ("Location", f"{elsewhere.url}/chat/completions")))
    with pytest.raises(UserError, match=r"replied 307 .*redirects are not followed"):
        service.judge().compare(PAIRS[:1])
    assert elsewhere.seen == []


def test_nobody_there(serve):
    service = serve(prefers_oslo)
    service.server.shutdown()
    service.server.server_close()
    with pytest.raises(UserError, match="cannot be reached"):
        service.judge().compare(PAIRS[:1])


def replies(*answers: str) -> list[Reply]:
    turns = (Message("system", "Be brief."), Message("user", "Where?"), Message("assistant", "Oslo"))
    example = Example("x:1", messages=turns)
    asked = Asked(Prompt((1,), "Where?", "Oslo", example, {}), (1,), ("Oslo",), {})
    return [Reply(asked, (Answer(text, True, 1),), (text,), 0) for text in answers]


def test_answers_are_judged_in_both_orders(serve):
    service = serve(prefers_oslo)
    outcomes, found = judged(
        service.judge(), replies("Oslo", "Rome", "Rome"), replies("Lima", "Oslo", "Lima")
    )
    assert outcomes.tolist() == [1.0, 0.0, 0.5]
    assert found == {"consistent": 1.0, "first_place": 0.5, "unreadable": 0.0, "refused": 0.0}
    texts = [seen["messages"][0]["content"] for _, _, seen in service.seen]
    assert len(texts) == 6 and all("system: Be brief.\n\nuser: Where?" in text for text in texts)
    # A judge that always takes the first answer decides nothing.
    biased = serve(lambda n, body: (200, chat("Verdict: 1")))
    outcomes, found = judged(biased.judge(), replies("Oslo"), replies("Lima"))
    assert outcomes.tolist() == [0.5] and (found["consistent"], found["first_place"]) == (0.0, 1.0)
