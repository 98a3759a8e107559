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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

from hf_align.errors import UserError
from hf_align.modeling.http import WITHOUT_REDIRECTS
from hf_align.types import Message

KEY_VARIABLE = "OPENAI_API_KEY"
TRIES = 4
_WORTH_ANOTHER_TRY = (408, 409, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class ChatService:
    """``url``: of the service, up to and with its version, such as ``http://localhost:8000/v1``.
    ``requests``: how many are sent at a time. ``timeout`` and ``pause`` (before a second try) in seconds."""

    named: ClassVar[str] = "url"
    """What messages to the user call the address."""

    url: str
    model: str
    requests: int = 4
    timeout: float = 120.0
    pause: float = 1.0

    def replies(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        temperature: float = 0.0,
        max_tokens: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> list[str]:
        """The reply to each conversation, in their order.

        ``max_tokens``: longest reply, None for the service's own limit. ``progress`` is called with the
        number of replies that came. Raises UserError where the service cannot be reached, refuses, or answers
        in another form.
        """
        limit = {} if max_tokens is None else {"max_tokens": max_tokens}

        def one(messages: Sequence[Message]) -> str:
            turns = [{"role": turn.role, "content": turn.content} for turn in messages]
            body = {"model": self.model, "temperature": temperature, "messages": turns, **limit}
            reply = self._reply(body)
            if progress is not None:
                progress(1)
            return reply

        with ThreadPoolExecutor(self.requests) as pool:
            futures = [pool.submit(one, messages) for messages in conversations]
            try:
                return [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _reply(self, body: dict[str, Any]) -> str:
        reply = self._post(json.dumps(body).encode("utf-8"))
        try:
            content = reply["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            raise UserError(
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
            try:
                with WITHOUT_REDIRECTS.open(request, timeout=self.timeout) as reply:
                    return json.loads(reply.read())
            except urllib.error.HTTPError as error:
                error.close()
                if error.code not in _WORTH_ANOTHER_TRY or attempt == TRIES:
                    raise self._refused(error) from None
            except ValueError:
                raise UserError(f"{self.named}: {self.url} replied with something that is no JSON") from None
            except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
                if attempt == TRIES:
                    reason = getattr(error, "reason", error)
                    raise UserError(f"{self.named}: {self.url} cannot be reached: {reason}") from None
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
        return UserError(f"{self.named}: {self.url} replied {error.code} {error.reason}{advice}")
