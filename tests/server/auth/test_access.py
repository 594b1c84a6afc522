"""Who gets in, over real sockets: tokens, cookies, hosts, origins, limits."""

import re
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from served import SECONDS, Served, layout, subscription
from trainvitals import home, wire
from trainvitals_server.app import create_app
from trainvitals_server.auth.roles import Needs, needs, undeclared
from trainvitals_server.settings import Settings

MUTATIONS = ("POST", "PUT", "PATCH", "DELETE")


def app(directory: Path) -> Any:
    return create_app(Settings(directory=home.home(directory)))


def test_every_route_declares_a_role(private_home: Path) -> None:
    """Default deny: what was forgotten is found here, and by the server when it starts."""
    made = app(private_home)
    assert list(undeclared(made.routes)) == []
    assert len(list(iter_route_contexts(made.routes))) > 15
    made.get("/forgotten")(lambda: None)
    assert list(undeclared(made.routes)) == ["/forgotten"]


def test_only_these_routes_are_public(private_home: Path) -> None:
    """Health, sign-in, the page and its files."""
    public = set()
    for route in iter_route_contexts(app(private_home).routes):
        roles = {one.call.role for one in route.dependant.dependencies if isinstance(one.call, Needs)}
        if "public" in roles:
            assert roles == {"public"}
            public.add(route.path)
    assert public == {"/healthz", "/readyz", "/signin", "/", "/runs/{run}", "/static/{path:path}"}
    assert needs("view").dependency.role == "view"


def test_every_path_refuses_every_mutation_without_a_token(shared: Served) -> None:
    """Those that exist and those that do not."""
    paths = {re.sub(r"{[^}]*}", "1", str(route.path)) for route in iter_route_contexts(app(shared.directory).routes)}
    with httpx.Client(base_url=shared.url, trust_env=False) as client:
        for path in [*paths, "/nowhere"]:
            for method in MUTATIONS:
                assert client.request(method, path).status_code == 401, (method, path)


@pytest.mark.parametrize(
    ("role", "method", "path", "status"),
    [
        (None, "GET", "/api/runs", 401),
        ("ingest", "GET", "/api/runs", 403),
        ("view", "GET", "/api/runs", 200),
        ("control", "GET", "/api/runs", 200),
        ("view", "POST", "/api/signin", 403),
        ("control", "POST", "/api/signin", 200),
        ("view", "POST", "/api/alerts/1/ack", 403),
        (None, "GET", "/healthz", 200),
        (None, "GET", "/metrics", 401),
        (None, "GET", "/openapi.json", 401),
    ],
)
def test_a_role_opens_what_it_is_for(
    shared: Served, role: home.Role | None, method: str, path: str, status: int
) -> None:
    """And nothing else."""
    assert shared.ask(method, path, role).status_code == status


def test_a_view_token_cannot_sanitize_and_the_attempt_is_recorded(served: Served) -> None:
    """403, with who, what and where in the audit."""
    with served.trainer() as trainer:
        trainer.hello()
        answer = served.ask("POST", "/api/runs/run-1/commands", "view", json={"action": "sanitize"})
    assert (answer.status_code, answer.json()) == (403, {"detail": "expected a token for control, got one for view"})
    with sqlite3.connect(served.directory / "trainvitals.db") as connection:
        rows = connection.execute("SELECT role, action, run, outcome FROM audit").fetchall()
        assert connection.execute("SELECT count(*) FROM commands").fetchone()[0] == 0
    connection.close()
    assert rows == [("view", "POST /api/runs/run-1/commands", "run-1", "denied")]


def test_guessing_ends_after_ten_a_minute_and_hurts_nobody_else(served: Served) -> None:
    """429 for the wrong ones; the right one still works."""
    answers = [served.ask("GET", "/api/runs", None, headers={"Authorization": f"Bearer guess-{n}"}) for n in range(12)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 2
    assert served.ask("GET", "/api/runs").status_code == 200


def test_a_token_in_the_address_is_refused(shared: Served) -> None:
    """Even a right one: addresses end up in logs."""
    token = home.read_token(shared.directory, "control")
    assert shared.ask("GET", f"/api/runs?token={token}", None).status_code == 400


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:1234", 200),
        ("127.0.0.1", 200),
        ("[::1]:99", 200),
        ("evil.example", 400),
        ("127.0.0.1.evil.example:8787", 400),
        ("localhost.evil.example", 400),
        ("", 400),
    ],
)
def test_only_known_hosts_are_answered(shared: Served, host: str, status: int) -> None:
    """A name that an attacker points at this machine is not one of them."""
    assert shared.ask("GET", "/healthz", headers={"Host": host}).status_code == status


def test_a_public_host_is_answered_where_it_is_configured(private_home: Path) -> None:
    """By that name and no other."""
    with Served(private_home, public_hosts=("vitals.example",), behind_proxy=True) as served:
        assert served.ask("GET", "/healthz", headers={"Host": "vitals.example"}).status_code == 200
        assert served.ask("GET", "/healthz", headers={"Host": "vitals.example:8443"}).status_code == 200
        assert served.ask("GET", "/healthz", headers={"Host": "other.example"}).status_code == 400


@contextmanager
def sign_in(served: Served) -> Iterator[httpx.Client]:
    """A browser that followed the link."""
    with httpx.Client(base_url=served.url, trust_env=False) as browser:
        answer = browser.get(served.link)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        for word in ("HttpOnly", "SameSite=strict", "Path=/"):
            assert word in answer.headers["set-cookie"]
        yield browser


def test_a_link_signs_one_browser_in_once(served: Served) -> None:
    """Its code is gone from the address; using it again does nothing."""
    with sign_in(served) as browser:
        assert browser.get("/api/runs").status_code == 200
        assert browser.get("/").status_code == 200
        assert browser.get(served.link).status_code == 403
        assert "works\nonce" in browser.get("/signin").text
    with httpx.Client(base_url=served.url, trust_env=False) as stranger:
        answer = stranger.get("/")
        assert (answer.status_code, answer.headers["location"]) == (303, "/signin")
        assert stranger.get("/signin").status_code == 401


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 403),
        ("null", 403),
        ("https://evil.example", 403),
        ("http://127.0.0.1.evil.example", 403),
        ("SELF", 200),
        ("SELF.evil.example", 403),
        ("SELF/", 403),
        ("http://[", 403),
    ],
)
def test_a_browsers_mutation_needs_the_page_s_own_origin(served: Served, origin: str | None, status: int) -> None:
    """Another site's page cannot act with this browser's cookie."""
    headers = {} if origin is None else {"Origin": origin.replace("SELF", served.url)}
    with sign_in(served) as browser:
        assert browser.post("/api/signin", json={}, headers=headers).status_code == status


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example:80"])
def test_a_websocket_from_another_origin_is_refused_before_it_opens(shared: Served, origin: str) -> None:
    """With or without a token."""
    for headers in ({}, shared.headers("view")):
        assert refused(shared, "/ws/live", additional_headers=headers, origin=origin) == 403


def test_a_websocket_needs_a_role_too(served: Served) -> None:
    """Nobody, a wrong role, a cookie without an Origin: refused before it opens; the page itself is let in."""
    assert refused(served, "/ws/live") == 401
    assert refused(served, "/ws/trainer") == 401
    assert refused(served, "/ws/trainer", additional_headers=served.headers("control")) == 403
    assert refused(served, "/ws/live", additional_headers=served.headers("ingest")) == 403
    with sign_in(served) as browser:
        cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in browser.cookies.items())}
    assert refused(served, "/ws/live", additional_headers=cookie) == 403
    address = served.url.replace("http", "ws", 1) + "/ws/live"
    with connect(address, additional_headers=cookie, origin=served.url, proxy=None) as socket:  # type: ignore[arg-type]
        socket.send(subscription(None))
        assert '"role":"control"' in str(socket.recv(SECONDS))


def refused(served: Served, path: str, **options: Any) -> int:
    """The status a websocket is refused with."""
    address = served.url.replace("http", "ws", 1) + path
    with pytest.raises(InvalidStatus) as caught, connect(address, proxy=None, **options):
        pass
    return caught.value.response.status_code


def test_a_session_outlives_the_server_but_not_a_new_control_token(private_home: Path) -> None:
    """Browsers come back after a restart; replacing the token signs them out."""
    with Served(private_home) as served, sign_in(served) as browser:
        cookies = dict(browser.cookies)
    with Served(private_home) as served:
        assert served.ask("GET", "/api/runs", None, cookies=cookies).status_code == 200
    (private_home / "control.token").unlink()
    with Served(private_home) as served:
        assert served.ask("GET", "/api/runs", None, cookies=cookies).status_code == 401


def test_a_body_over_the_limit_is_refused_whatever_its_header_says(shared: Served) -> None:
    """With an honest length and in chunks without one."""
    big = b'{"action": "' + b"x" * (1 << 20) + b'"}'
    headers = {"Content-Type": "application/json"}
    assert shared.ask("POST", "/api/runs/r/commands", "control", content=big, headers=headers).status_code == 413
    pieces = (big[start : start + 65536] for start in range(0, len(big), 65536))
    assert shared.ask("POST", "/api/runs/r/commands", "control", content=pieces, headers=headers).status_code == 413


def test_every_answer_carries_the_security_headers(shared: Served) -> None:
    """Refusals included."""
    for path in ("/healthz", "/api/runs", "/nowhere", "/signin"):
        headers = shared.ask("GET", path, None).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
        assert "access-control-allow-origin" not in headers


def test_tokens_are_made_once_private_and_different(shared: Served) -> None:
    """256 bits each, on one line; a dash at the beginning would be taken for an option on a command line."""
    tokens = [home.read_token(shared.directory, role) for role in ("ingest", "view", "control")]
    assert len(set(tokens)) == 3
    assert all(token and len(bytes.fromhex(token)) == 32 for token in tokens)
    modes = {oct((shared.directory / f"{role}.token").stat().st_mode & 0o777) for role in ("ingest", "view", "control")}
    assert modes == {"0o600"}


def test_slow_and_idle_connections_leave_the_server_awake(shared: Served) -> None:
    """A hundred half-sent requests, and it still answers."""
    host, port = shared.url.removeprefix("http://").split(":")
    idle = [socket.create_connection((host, int(port))) for _ in range(100)]
    for one in idle:
        one.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
    assert shared.ask("GET", "/healthz").status_code == 200
    for one in idle:
        one.close()


def test_refusals_are_not_logged_as_faults(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever knocks cannot fill the log."""
    assert refused(served, "/ws/live") == 401
    assert refused(served, "/ws/nowhere") in (403, 404)
    assert caplog.text == ""


def test_an_unauthenticated_trainer_reaches_no_session(served: Served) -> None:
    """Its first message is never read."""
    assert refused(served, "/ws/trainer", additional_headers={"Authorization": "Bearer wrong"}) == 401
    with served.trainer() as trainer:
        trainer.hello()
        trainer.store(layout(("", wire.RUN, wire.LOSS)))
