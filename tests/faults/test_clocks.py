"""Wall clocks that jump by a day, on either side."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ward import Ward

Enter = Callable[..., None]
DAY = 86_400


@pytest.fixture(scope="module")
def jumping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    """A server and a training, each with a clock that a file sets."""
    folder = tmp_path_factory.mktemp("jumping")
    ward = Ward(folder, plants=(f"clock={folder / 'server.clock'}",))
    try:
        ward.program.start()
        ward.train(plants=(f"clock={folder / 'trainer.clock'}",)).under_way()
        yield ward
    finally:
        ward.close()


@pytest.mark.parametrize("days", [1, -1])
@pytest.mark.parametrize("whose", ["trainer", "server"])
def test_a_clock_that_jumps(jumping: Ward, enter: Enter, whose: str, days: int) -> None:
    """And back. The order is that of the numbers; nobody takes the run for stalled."""
    file: Path = jumping.folder / f"{whose}.clock"
    run = jumping.training.ledger.run
    with jumping.fault(f"clock of the {whose} jumps {days:+d} day", "order by sequence; no false stall") as row:
        file.write_text(str(days * DAY))
        jumping.training.go_on(0.7)
        assert jumping.program.get(f"/api/runs/{run}")["state"] == "live"
        file.unlink()
        jumping.training.go_on(0.7)
        assert jumping.program.get(f"/api/runs/{run}")["state"] == "live"
    enter(row)
