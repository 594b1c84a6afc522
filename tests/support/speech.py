"""A trainer that speaks the wire word by word to a server in a process of its own."""

from collections.abc import Iterator
from contextlib import contextmanager

from websockets.sync.client import unix_connect

from program import Program
from served import Speaker, identify
from trainvitals import home


@contextmanager
def speaking(program: Program, run: str = "raw") -> Iterator[Speaker]:
    """Connected, and hello not yet said. The producer is `p`."""
    announced = home.read_server_file(program.directory)
    assert announced is not None
    headers = {"Authorization": f"Bearer {program.token('ingest')}"}
    with unix_connect(announced.socket, "ws://localhost/ws/trainer", additional_headers=headers) as socket:
        yield Speaker(socket, identify(run, "p"))
