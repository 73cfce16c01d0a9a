"""One request over the SDK's own HTTP client, without the machinery that the SDK puts around each call.

Address, key, headers, query, proxies, TLS and pool are the SDK's, read from its client through public names. What is
left out is what our own retry policy and typed errors do anyway, and what costs more than the rest of a call: options,
headers and URL built anew for every request, and a model of each reply. `Connection.plain_stream` keeps the SDK's way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PATH = "/chat/completions"


class Transport:
    """What all requests of one SDK client have in common. Made once a client.

    Args:
        client: the SDK's sync or async client.
        http: the HTTP client under it.
        own: it is the user's: whatever its headers, cookies and parameters are by then goes into each request.
    """

    def __init__(self, client: Any, http: Any, *, own: bool) -> None:
        self.client = client
        """A client that is forgotten closes the HTTP client under it."""
        self._http = http
        self._url = f"{str(client.base_url).rstrip('/')}{PATH}"
        # A header that the SDK is told to leave out is no text.
        given = {**client.auth_headers, **client.default_headers}
        self._headers = {name: value for name, value in given.items() if isinstance(value, str)}
        self._query = dict(client.default_query) or None
        known = self._built(b"", {})
        self._known = None if own else known
        self._request_type, self._body_type = type(known), type(known.stream)

    def request(self, content: bytes, timeout: Mapping[str, float | None]) -> Any:
        """Return the HTTP library's request.

        Args:
            content: the body.
            timeout: seconds to connect, read, write and wait for the pool.
        """
        if self._known is None or self._http.cookies:
            return self._built(content, timeout)
        known = self._known
        headers = known.headers.copy()
        headers["content-length"] = str(len(content))
        body = self._body_type(content)  # with ``content=`` all headers would be written anew
        return self._request_type(
            "POST", known.url, headers=headers, stream=body, extensions={"timeout": dict(timeout)}
        )

    def send(self, request: Any) -> Any:
        """Send; return the response, or the awaitable of it, before its body is read."""
        return self._http.send(request, stream=True)

    def _built(self, content: bytes, timeout: Mapping[str, float | None]) -> Any:
        return self._http.build_request(
            "POST",
            self._url,
            params=self._query,
            headers=self._headers,
            content=content,
            extensions={"timeout": dict(timeout)},
        )
