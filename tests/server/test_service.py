"""A server as a process: what it announces, whom it refuses, how it ends."""

import contextlib
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from child import child
from served import Served, close_of, frame, layout
from trainvitals import home, wire
from trainvitals_server import service
from trainvitals_server.errors import SettingsError
from trainvitals_server.settings import Settings

SERVE = """
import sys
from trainvitals_server import service
from trainvitals_server.settings import Settings
service.run(Settings(port=0), lambda url, link: print(url, link, flush=True))
print("ended", flush=True)
"""


def test_a_server_announces_itself_and_takes_it_back(private_home: Path) -> None:
    """Both sockets answer; nothing but database and tokens is left behind."""
    with Served(private_home) as served:
        announced = home.read_server_file(private_home)
        assert announced is not None
        assert announced.url == served.url
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in private_home.iterdir()}
        assert (modes["server.json"], modes["server.sock"], modes["trainvitals.db"]) == (0o600, 0o600, 0o600)
        with httpx.Client(transport=httpx.HTTPTransport(uds=announced.socket)) as client:
            assert client.get("http://localhost/readyz").json() == {"status": "ready"}
        assert served.ask("GET", "/readyz", None).status_code == 200
    left = {path.name for path in private_home.iterdir()}
    assert left == {"trainvitals.db", "ingest.token", "view.token", "control.token", "server.lock"}


def test_two_servers_cannot_share_a_directory(private_home: Path) -> None:
    """The second is told where the first is."""
    with Served(private_home) as served, pytest.raises(SettingsError, match=served.url):
        service.run(Settings(port=0, directory=private_home))


def test_a_port_that_is_taken_is_named(private_home: Path) -> None:
    """In one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"127.0.0.1:{port} cannot be listened on: Address already in use"):
            service.run(Settings(port=port, directory=private_home))
    assert not (private_home / "server.sock").exists()


def test_a_database_that_is_none_is_named(private_home: Path) -> None:
    """Before anything listens."""
    home.home(private_home)
    (private_home / "trainvitals.db").write_bytes(b"no database" * 1000)
    with pytest.raises(SettingsError, match="file is not a database"):
        service.run(Settings(port=0, directory=private_home))


def test_a_directory_with_a_long_name_gets_its_socket_elsewhere(tmp_path: Path) -> None:
    """In a private directory of its own, which goes with the server."""
    with Served(tmp_path / ("long" * 30)) as served:
        announced = home.read_server_file(served.directory)
        assert announced is not None
        place = Path(announced.socket)
        assert len(announced.socket) < 100
        assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
        with served.trainer() as trainer:
            trainer.hello()
    assert not place.parent.exists()


def test_sigterm_closes_sockets_with_1012_and_ends_in_order(private_home: Path) -> None:
    """Within seconds, with nothing announced any more."""
    with child([sys.executable, "-c", SERVE], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        url, link = process.stdout.readline().split()
        assert link.startswith(f"{url}/signin?code=")
        served = Served.__new__(Served)  # only its clients: the server is the process
        served.directory, served.url = private_home, url
        with served.trainer() as trainer, served.live(None) as browser:
            trainer.hello()
            started = time.monotonic()
            process.send_signal(signal.SIGTERM)
            for one in (trainer.socket, browser):
                assert close_of(one)[0] == 1012
        assert process.wait(60) == 0
        assert time.monotonic() - started < 5
        assert process.stdout.read() == "ended\n"
    assert not (private_home / "server.json").exists()


def test_tls_is_for_tcp_and_the_local_socket_needs_none(private_home: Path, tmp_path: Path) -> None:
    """With a certificate of one's own."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(cert), "-days", "1", "-subj", "/CN=localhost"]
    subprocess.run(command, check=True, capture_output=True)
    with Served(private_home, tls_cert=cert, tls_key=key) as served:
        announced = home.read_server_file(private_home)
        assert announced is not None
        assert announced.url.startswith("https://127.0.0.1:")
        trusted = ssl.create_default_context(cafile=cert)
        trusted.check_hostname = False  # the certificate is for a name, the address is a number
        assert httpx.get(f"{announced.url}/healthz", verify=trusted, trust_env=False).status_code == 200
        with served.trainer() as trainer:
            trainer.hello()


def test_sigterm_ends_in_order_with_many_trainers_and_a_browser_that_never_reads(private_home: Path) -> None:
    """Each is told 1012, the browser is not waited for longer than its grace."""
    with child([sys.executable, "-c", SERVE], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        served = Served.__new__(Served)  # only its clients: the server is the process
        served.directory, served.url = private_home, process.stdout.readline().split()[0]
        columns = [(f"layer.{place}", wire.PARAMETER, wire.GRAD_NORM) for place in range(2000)]
        with contextlib.ExitStack() as stack:
            trainers = [stack.enter_context(served.trainer(f"run-{place}")) for place in range(50)]
            for trainer in trainers:
                trainer.hello()
            trainers[0].store(layout(*columns))
            stack.enter_context(served.live("run-0", max_queue=1, close_timeout=0.1))
            for batch in range(60):  # 14 MB, more than sockets hold
                trainers[0].store(*[frame(30 * batch + step, [1.0] * 2000) for step in range(30)])
            started = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert {close_of(trainer.socket)[0] for trainer in trainers} == {1012}
            assert process.wait(60) == 0
            assert time.monotonic() - started < 10
