"""A running server: one of its own for a test that changes things, one for a whole module of those that only look."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from served import Served


@pytest.fixture
def served(private_home: Path) -> Iterator[Served]:
    """The real server, on sockets of its own."""
    with Served(private_home) as server:
        yield server


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The same for every test of a module."""
    with Served(tmp_path_factory.mktemp("home")) as server:
        yield server
