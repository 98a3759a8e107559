"""A client of OpenAI-compatible chat services: conversations in, replies out.

Only Python's own HTTP client is used. The key is read from the environment and goes into one header; it is in
no message, file or log, and redirects, which would hand it on, are not followed. What is asked, and what
becomes of the replies, is up to the caller (``judge``, for example).
"""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hf_align.errors import UserError
from hf_align.modeling.http import WITHOUT_REDIRECTS
from hf_align.types import Message

KEY_VARIABLE = "OPENAI_API_KEY"
TRIES = 4
_LONGEST_PAUSE = 60.0
_WORTH_ANOTHER_TRY = (408, 409, 429, 500, 502, 503, 504)


class RequestRefused(UserError):
    """The service has no reply to this one request; others may have one."""


@dataclass(frozen=True)
class ChatService:
    """``url``: of the service, up to and with its version, such as ``http://localhost:8000/v1``.
    ``requests``: how many are sent at a time. ``timeout`` and ``pause`` (before a second try) in seconds.
    ``parameters``: more entries of every request, which take precedence."""

    named: ClassVar[str] = "url"
    """What messages to the user call the address."""

    url: str
    model: str
    requests: int = 4
    timeout: float = 120.0
    pause: float = 1.0
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def replies(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        temperature: float | None = 0.0,
        max_tokens: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> list[str | None]:
        """The reply to each conversation, in their order; None where the service refused that one.

        ``temperature``: None leaves it out, for models that take none. ``max_tokens``: longest reply, None
        for the service's own limit. ``progress`` is called with the number of replies that came. Raises
        UserError where the service cannot be reached, wants a key, is none of this kind, or refused every
        request.
        """
        own: dict[str, Any] = {} if max_tokens is None else {"max_tokens": max_tokens}
        if temperature is not None:
            own["temperature"] = temperature

        def one(messages: Sequence[Message]) -> str | RequestRefused:
            turns = [{"role": turn.role, "content": turn.content} for turn in messages]
            try:
                return self._reply({"model": self.model, "messages": turns, **own, **self.parameters})
            except RequestRefused as refused:
                return refused
            finally:
                if progress is not None:
                    progress(1)

        with ThreadPoolExecutor(self.requests) as pool:
            futures = [pool.submit(one, messages) for messages in conversations]
            try:
                found = [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        refused = [reply for reply in found if isinstance(reply, RequestRefused)]
        if refused and len(refused) == len(found):
            raise refused[0]
        return [None if isinstance(reply, RequestRefused) else reply for reply in found]

    def _reply(self, body: dict[str, Any]) -> str:
        reply = self._post(json.dumps(body).encode("utf-8"))
        try:
            content = reply["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            raise RequestRefused(
                f"{self.named}: {self.url} replied in another form than chat completions have; found the "
                f"keys {', '.join(reply) if isinstance(reply, dict) else type(reply).__name__}"
            ) from None
        return str(content or "")

    def _post(self, body: bytes) -> Any:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY_VARIABLE):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(f"{self.url.rstrip('/')}/chat/completions", body, headers)
        for attempt in range(1, TRIES + 1):
            asked = 0.0
            try:
                with WITHOUT_REDIRECTS.open(request, timeout=self.timeout) as reply:
                    return json.loads(reply.read())
            except urllib.error.HTTPError as error:
                error.close()
                if error.code not in _WORTH_ANOTHER_TRY or attempt == TRIES:
                    raise self._refused(error) from None
                asked = _seconds(error.headers.get("Retry-After"))
            except ValueError:
                raise RequestRefused(
                    f"{self.named}: {self.url} replied with something that is no JSON"
                ) from None
            except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
                if attempt == TRIES:
                    reason = getattr(error, "reason", error)
                    raise UserError(f"{self.named}: {self.url} cannot be reached: {reason}") from None
            time.sleep(max(asked, self.pause * 2 ** (attempt - 1)))
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
        kind = UserError if advice else RequestRefused
        return kind(f"{self.named}: {self.url} replied {error.code} {error.reason}{advice}")


def _seconds(header: str | None) -> float:
    """What a service asks to wait, at most a minute; 0 where it does not say so in seconds."""
    try:
        return min(_LONGEST_PAUSE, max(0.0, float(header or 0)))
    except ValueError:  # a date
        return 0.0
