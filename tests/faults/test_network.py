"""A network that misbehaves, between a training and its server."""

from collections.abc import Callable

import pytest

from fault_table import Row
from proxy import Weather
from served import until
from ward import Ward

Enter = Callable[[Row], None]
SECONDS = 2.0


@pytest.fixture(autouse=True)
def fair_weather(running: Ward) -> None:
    """Whatever the test before did."""
    running.proxy.weather = Weather()


@pytest.mark.parametrize(
    ("name", "weather"),
    [
        ("black hole, and open again", Weather(hole=True)),
        ("latency 200 ms", Weather(delay=0.2)),
        ("loss 5 %", Weather(loss=0.05)),
        ("10 KB/s", Weather(rate=10_000.0)),
    ],
)
def test_bad_weather(running: Ward, enter: Enter, name: str, weather: Weather) -> None:
    """Training goes on, nothing is lost, and all arrives once it is over."""
    with running.fault(name, "steps unaffected; nothing lost, nothing twice") as row:
        running.proxy.weather = weather
        running.training.go_on(SECONDS)
        running.proxy.weather = Weather()
    enter(row)


def test_a_reset_within_a_frame(running: Ward, enter: Enter) -> None:
    """Ten connections are cut in the middle of what they send."""
    with running.fault("RST mid-frame, 10 times", "nothing partial is stored") as row:
        before = running.proxy.resets
        for i in range(10):
            running.proxy.weather = Weather(cut=700 + 37 * i)
            until(lambda i=i: running.proxy.resets == before + i + 1)
        running.training.go_on(0.1)
    enter(row)
