"""What a browser page did beside being looked at: errors it reported, requests it made."""

import re
import time
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Page


class Watch:
    """Follows every page of a browser context."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.allowed = ["willReadFrequently"]  # said of canvases that only the tests read
        self._home = urlsplit(url).netloc
        context.on("page", self._follow)

    def allow(self, pattern: str) -> None:
        """Errors that match are what the test provokes."""
        self.allowed.append(pattern)

    def foreign(self) -> list[str]:
        """Requests to anywhere but the server."""
        return [url for url in self.requests if urlsplit(url).netloc not in (self._home, "")]

    def unexpected(self) -> list[str]:
        """Errors the test did not provoke."""
        return [error for error in self.errors if not any(re.search(pattern, error) for pattern in self.allowed)]

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def _follow(self, page: Page) -> None:
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("websocket", lambda socket: self.requests.append(socket.url.replace("ws", "http", 1)))


def until(page: Page, script: str, argument: Any = None, seconds: float = 15.0) -> Any:
    """Evaluate `script` until it is truthy, and return that. Raises TimeoutError.

    Playwright's own way of waiting needs `eval` in the page, which the page's security policy forbids.
    """
    deadline = time.monotonic() + seconds
    while not (value := page.evaluate(script, argument)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"expected to become true within {seconds:g} s: {script.strip()[:200]}")
        page.wait_for_timeout(50)
    return value
