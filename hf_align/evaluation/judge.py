"""A judge model behind an OpenAI-compatible service: which of two answers is better, or neither.

Only Python's own HTTP client is used. The key is read from the environment and goes into one header; it is in
no message, file or log, and redirects, which would hand it on, are not followed. What becomes of the verdicts
is in ``win_rate``.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from hf_align.errors import UserError

KEY_VARIABLE = "OPENAI_API_KEY"
TRIES = 4
_WORTH_ANOTHER_TRY = (408, 409, 429, 500, 502, 503, 504)

Verdict = Literal["first", "second", "tie", "unreadable"]

PROMPT = """Two assistants answered the same request. Judge which answer is better: correct, helpful, and \
doing what was asked, no more. The order of the answers and their length say nothing about their quality.

[Request]
{request}

[Answer 1]
{first}

[Answer 2]
{second}

Say in one or two sentences what decides it. Then end with one line that is exactly
Verdict: 1
or
Verdict: 2
or
Verdict: tie"""
_VERDICT = re.compile(r"verdict\W*(1|2|tie)\b", re.IGNORECASE)
_MEANING: dict[str, Verdict] = {"1": "first", "2": "second", "tie": "tie"}


@dataclass(frozen=True)
class Judge:
    """``url``: of the service, up to and with its version, such as ``http://localhost:8000/v1``.
    ``requests``: how many are sent at a time. ``timeout`` and ``pause`` (before a second try) in seconds."""

    url: str
    model: str
    requests: int = 4
    timeout: float = 120.0
    pause: float = 1.0

    def compare(
        self, pairs: Sequence[tuple[str, str, str]], progress: Callable[[int], None] | None = None
    ) -> list[Verdict]:
        """A verdict for each (request, first answer, second answer), in their order.

        ``progress`` is called with the number of verdicts that came. Raises UserError where the service
        cannot be reached, refuses, or answers in another form.
        """

        def one(pair: tuple[str, str, str]) -> Verdict:
            request, first, second = pair
            verdict = read_verdict(self._ask(PROMPT.format(request=request, first=first, second=second)))
            if progress is not None:
                progress(1)
            return verdict

        with ThreadPoolExecutor(self.requests) as pool:
            futures = [pool.submit(one, pair) for pair in pairs]
            try:
                return [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _ask(self, text: str) -> str:
        body = {"model": self.model, "temperature": 0, "messages": [{"role": "user", "content": text}]}
        reply = self._post(json.dumps(body).encode("utf-8"))
        try:
            content = reply["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            raise UserError(
                f"judge_url: {self.url} replied in another form than chat completions have; found the keys "
                f"{', '.join(reply) if isinstance(reply, dict) else type(reply).__name__}"
            ) from None
        return str(content or "")

    def _post(self, body: bytes) -> Any:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY_VARIABLE):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(f"{self.url.rstrip('/')}/chat/completions", body, headers)
        for attempt in range(1, TRIES + 1):
            try:
                with _OPENER.open(request, timeout=self.timeout) as reply:
                    return json.loads(reply.read())
            except urllib.error.HTTPError as error:
                if error.code not in _WORTH_ANOTHER_TRY or attempt == TRIES:
                    raise self._refused(error) from None
            except ValueError:
                raise UserError(f"judge_url: {self.url} replied with something that is no JSON") from None
            except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
                if attempt == TRIES:
                    reason = getattr(error, "reason", error)
                    raise UserError(f"judge_url: {self.url} cannot be reached: {reason}") from None
            time.sleep(self.pause * 2 ** (attempt - 1))
        raise AssertionError("the last try returns or raises")

    def _refused(self, error: urllib.error.HTTPError) -> UserError:
        advice = ""
        if error.code in (401, 403):
            advice = f"; it wants a key, which is read from the environment variable {KEY_VARIABLE}"
        elif error.code == 404:
            advice = f"; is the address right (it usually ends in /v1), and is there a model '{self.model}'?"
        elif 300 <= error.code < 400:
            advice = "; redirects are not followed, give the address they lead to"
        # What the service says is left out: some repeat the key.
        return UserError(f"judge_url: {self.url} replied {error.code} {error.reason}{advice}")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)


def read_verdict(reply: str) -> Verdict:
    """The last verdict in a reply; ``unreadable`` where there is none."""
    found = _VERDICT.findall(reply)
    return _MEANING[found[-1].lower()] if found else "unreadable"
