"""The page and its files, as a browser asks for them."""

import pytest

from served import Served


def test_the_page_is_served_to_who_is_signed_in(shared: Served) -> None:
    """For every run the same page."""
    for path in ("/", "/runs/some-run"):
        answer = shared.ask("GET", path)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "<!doctype html>" in answer.text.lower()


def test_modules_are_javascript_compressed_and_revalidated(shared: Served) -> None:
    """A browser that has a file is told so in one short answer."""
    path = "/static/link/socket.js"
    answer = shared.ask("GET", path, None, headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert (answer.headers["content-encoding"], answer.headers["cache-control"]) == ("gzip", "no-cache")
    plain = shared.ask("GET", path, None, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.text == answer.text
    again = shared.ask("GET", path, None, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path",
    ["", "nothing.js", "../__init__.py", "%2e%2e/__init__.py", "/etc/passwd", "link", "link/../../__init__.py"],
)
def test_nothing_outside_the_page_s_folder_is_served(shared: Served, path: str) -> None:
    """404, however it is written."""
    assert shared.ask("GET", f"/static/{path}", None).status_code == 404
