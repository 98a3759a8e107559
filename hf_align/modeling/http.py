"""How services are asked over HTTP: redirects are not followed, which would hand on the key in the header."""

from __future__ import annotations

import urllib.request
from typing import Any


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


WITHOUT_REDIRECTS = urllib.request.build_opener(_NoRedirects)
