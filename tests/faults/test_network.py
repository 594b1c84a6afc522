"""A network that misbehaves, between a training and its server."""

import time
from collections.abc import Callable

import pytest

from fault_table import Row
from namespace import namespace
from proxy import Proxy, Weather
from served import until
from ward import Ward

Enter = Callable[[Row], None]
SECONDS = 1.5
SLACK = 3.0


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


@pytest.mark.parametrize("ping", [0.7, pytest.param(20.0, marks=pytest.mark.chaos)])
def test_a_connection_that_leads_nowhere(visited: Ward, enter: Enter, ping: float) -> None:
    """Nobody says so: it is found out by the pings, in less than twice their distance, and another one is opened."""
    training = visited.train(server=visited.proxy.url, plants=(f"ping={ping}",)).under_way()
    until(lambda: visited.proxy.accepted == 1)
    with visited.fault(f"black hole that stays, pings every {ping:g} s", "detected ≤ 40 s (less than 2 pings)") as row:
        visited.proxy.swallow()
        begin = time.monotonic()
        until(lambda: training.go_on(0.1) or visited.proxy.accepted > 1, 2 * ping + 10)
        took = time.monotonic() - begin
    row.note = f"detected after {took:.1f} s"
    enter(row)
    assert took < max(2 * ping, SLACK)  # the new connection included


@pytest.mark.chaos
@pytest.mark.parametrize("seconds", [5.0, 60.0])
def test_a_network_that_is_down(visited: Ward, enter: Enter, seconds: float) -> None:
    """The kernel's own: the training has a network to itself, which is taken down, and up again."""
    with namespace() as own:
        if own is None:
            pytest.skip("no network namespace can be made here")
        visited.use(Proxy(visited.program.port, own.listen()))
        visited.train(server=visited.proxy.url, prefix=own.prefix).under_way()
        with visited.fault(f"network down for {seconds:g} s (namespace)", "steps unaffected; resumes", 90) as row:
            own.link("down")
            visited.training.go_on(seconds)
            own.link("up")
        enter(row)


@pytest.mark.chaos
def test_packets_that_are_late_and_lost(visited: Ward, enter: Enter) -> None:
    """By the kernel's own emulation, where it has one."""
    with namespace() as own:
        if own is None or not own.degrade("delay", "0ms"):
            pytest.skip("this kernel cannot emulate a network (tc netem)")
        visited.use(Proxy(visited.program.port, own.listen()))
        visited.train(server=visited.proxy.url, prefix=own.prefix).under_way()
        with visited.fault("latency 100 ms ± 50, loss 10 % (tc netem)", "steps unaffected; nothing lost") as row:
            own.degrade("delay", "100ms", "50ms", "loss", "10%")
            visited.training.go_on(20.0)
            own.degrade("delay", "0ms")
        enter(row)
