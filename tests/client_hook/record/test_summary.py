"""What the ranks other than 0 send: the worst of what all layers told."""

import math

from trainvitals import wire
from trainvitals.record.columns import Columns, Register
from trainvitals.record.observation import Observation
from trainvitals.record.summary import Summary

LAYERS = ("a", "b", "c")


def observed(**given: tuple[float | None, ...]) -> tuple[Columns, Register, Observation]:
    """An observation of three layers; None is absent. `norms` are gradients, the rest statistics by their name."""
    register = Register()
    columns = Columns(register)
    loss = columns.add("", wire.RUN, wire.LOSS)
    rate = columns.add("", wire.RUN, wire.LEARNING_RATE)
    norms = columns.add_all(LAYERS, wire.PARAMETER, wire.GRAD_NORM)
    stats = {stat: columns.add_all(LAYERS, wire.NORM, stat) for stat in wire.NORM_STATS}
    seen = Observation(7, 1.0, len(columns))
    seen.put(loss, 0.5)
    seen.put(rate, 0.1)
    values = {name: given.get(name, (0.0, 0.0, 0.0)) for name in ("norms", *stats)}
    for name, places in {"norms": norms, **stats}.items():
        for place, value in zip(places, values[name], strict=True):
            if value is not None:
                seen.put(int(place), value)
    return columns, register, seen


def summed_up(**given: tuple[float | None, ...]) -> dict[str, float]:
    """The summary of such an observation, by statistic."""
    columns, register, seen = observed(**given)
    summary = Summary(columns, register)
    told = summary.of(seen)
    assert (told.step, told.time) == (7, 1.0)
    keys = summary.columns.series_keys()
    assert all(key[:2] == ("", wire.RUN) for key in keys)
    return {key[2]: float(told.values[place]) for place, key in enumerate(keys) if told.present[place]}


def test_the_range_is_the_widest_of_all_layers() -> None:
    """Least of the least, largest of the largest."""
    ranges = {wire.MEAN_MIN: (-1, -3, 2), wire.MEAN_MAX: (4, 0, 3), wire.VAR_MIN: (1, 2, 0.5), wire.VAR_MAX: (2, 9, 3)}
    told = summed_up(**ranges)  # type: ignore[arg-type]
    assert {stat: told[stat] for stat in ranges} == {
        wire.MEAN_MIN: -3,
        wire.MEAN_MAX: 4,
        wire.VAR_MIN: 0.5,
        wire.VAR_MAX: 9,
    }
    assert told[wire.LOSS] == 0.5
    assert wire.LEARNING_RATE not in told


def test_nan_is_worse_than_any_number() -> None:
    """And a layer that said nothing is not among them."""
    told = summed_up(**{wire.VAR_MAX: (1.0, math.nan, 5.0), wire.VAR_MIN: (None, 0.25, None)})
    assert math.isnan(told[wire.VAR_MAX])
    assert told[wire.VAR_MIN] == 0.25


def test_corrupt_layers_and_gradients_are_counted() -> None:
    """A layer once, whichever of its statistics is wrong."""
    bad = {wire.NONFINITE_CHANNELS: (3.0, 0.0, 1.0), wire.NEGATIVE_CHANNELS: (0.0, 0.0, 2.0)}
    told = summed_up(norms=(math.inf, 1.0, math.nan), **bad)
    assert (told[wire.CORRUPT_LAYERS], told[wire.NONFINITE_GRADIENTS]) == (2, 2)


def test_of_what_nothing_is_known_nothing_is_said() -> None:
    """Absent gradients are no finite ones."""
    nothing = dict.fromkeys(("norms", *wire.NORM_STATS), (None, None, None))
    assert summed_up(**nothing) == {wire.LOSS: 0.5}
