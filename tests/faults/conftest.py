"""Faults, injected for real: a server, a training and what stands between them; and the table of what came of each.

Quick ones run with all other tests; the long ones are marked `chaos` and run by `make chaos`, which ends with the whole
table. `--write FILE` also puts it between the markers of a file.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fault_table
from fault_table import Row
from ward import Ward

UNDISTURBED = 2.0  # seconds of training with nothing wrong


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write", metavar="FILE", help="put the table of faults into this file")
    parser.addoption("--minutes", type=float, default=10.0, help="how long the soak goes on (default: %(default)s)")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The rows travel with the reports, so that they are here whatever process ran the test."""
    reports = [one for some in terminalreporter.stats.values() for one in some if hasattr(one, "user_properties")]
    found = [value for one in reports for name, value in one.user_properties if name == "fault"]
    rows = {row.fault: row for row in map(fault_table.unpack, found)}
    if not rows:
        return
    text = fault_table.table(sorted(rows.values(), key=lambda row: row.fault != "none"))
    terminalreporter.write_sep("=", "faults")
    terminalreporter.write_line(text)
    if config.getoption("--write", default=None):
        fault_table.write(Path(config.getoption("--write")), text)


@pytest.fixture(scope="session")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    """A server and a training that survive every fault of those that use them, with the proxy between them."""
    ward = Ward(tmp_path_factory.mktemp("standing"))
    try:
        ward.program.start()
        ward.train(server=ward.proxy.url).under_way()
        ward.settle(time.monotonic())
        yield ward
    finally:
        ward.close()


@pytest.fixture(scope="session")
def undisturbed(standing: Ward) -> Row:
    """The same training with nothing wrong, for comparison."""
    with standing.fault("none", "an undisturbed run, for comparison") as row:
        standing.training.go_on(UNDISTURBED)
    row.check()
    standing.training.rest()
    return row


@pytest.fixture
def running(standing: Ward, undisturbed: Row) -> Iterator[Ward]:
    """The one that stands, at work."""
    standing.training.resume()
    yield standing
    standing.training.rest()


@pytest.fixture
def enter(undisturbed: Row, record_property: Callable[[str, object], None]) -> Callable[[Row], None]:
    """Check a row's invariants, and enter it in the table."""
    record_property("fault", undisturbed.pack())

    def enter_row(row: Row) -> None:
        record_property("fault", row.pack())
        row.check()

    return enter_row


@pytest.fixture
def make_ward(tmp_path: Path) -> Iterator[Callable[..., Ward]]:
    """Makes wards, and ends everything in them after the test."""
    made: list[Ward] = []

    def make(**options: Any) -> Ward:
        made.append(Ward(tmp_path / f"ward-{len(made)}", **options))
        return made[-1]

    yield make
    for ward in made:
        ward.close()


@pytest.fixture
def visited(standing: Ward, make_ward: Callable[..., Ward]) -> Ward:
    """The server that runs already, for a test's own trainings; it must be left as it was."""
    return make_ward(program=standing.program)


@pytest.fixture
def ward(make_ward: Callable[..., Ward]) -> Ward:
    """A server of the test's own, and no training yet."""
    made = make_ward()
    made.program.start()
    return made
