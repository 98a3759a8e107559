"""Services are asked without following redirects, which would hand on the key."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from hf_align.modeling.http import WITHOUT_REDIRECTS


def test_a_redirect_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(urllib.error.HTTPError) as caught:
            WITHOUT_REDIRECTS.open(f"http://127.0.0.1:{server.server_port}/here", timeout=10)
        assert caught.value.code == 302 and asked == ["/here"]
    finally:
        server.shutdown()
        server.server_close()
