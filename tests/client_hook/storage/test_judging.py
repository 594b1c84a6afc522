"""Which tensors of a state count as corrupt, and how statistics are made good in a copy."""

from typing import Any

import numpy as np
import pytest
import torch

from trainvitals.storage.judging import heal_statistics, state_issues

NAN = float("nan")


@pytest.mark.parametrize(
    ("state", "keys"),
    [
        ({"model": {"a": {"w": torch.tensor([NAN])}}}, ["a.w"]),
        ({"G": [{"w": torch.tensor([NAN])}], "n": 1}, ["G.0.w"]),
        ({"ema": {"w": torch.tensor(NAN)}}, ["ema.w"]),
        ({"model.w": torch.tensor(NAN)}, ["model.w"]),
        ({"model": {"bn.running_var": torch.tensor([-1.0])}}, ["bn.running_var"]),
        ({"model": {"my_running_var": torch.tensor([-1.0])}}, []),
        ({"model": {}, "loss": torch.tensor(NAN), "metric": NAN, "history": [1.0, NAN], "np": np.array([NAN])}, []),
        ({"optimizer": {"state": {0: {"running_var": torch.tensor([-1.0])}}}}, []),
    ],
)
def test_tensors_are_judged_and_measurements_are_not(state: dict[str, Any], keys: list[str]) -> None:
    """A NaN loss is what was measured; a NaN weight is a broken model."""
    assert [issue.key for issue in state_issues(state)] == keys


def test_statistics_are_made_good_channel_by_channel_in_a_copy() -> None:
    """Mean and variance together; the donor's where it is good."""
    state = {"bn.running_mean": torch.tensor([1.0, NAN, 3.0]), "bn.running_var": torch.tensor([1.0, 2.0, -1.0])}
    donor = {"bn.running_mean": torch.tensor([7.0, 8.0, 9.0]), "bn.running_var": torch.tensor([7.0, 8.0, NAN])}
    healed, layers = heal_statistics({"module." + key: value for key, value in state.items()}, donor)
    assert layers == ["module.bn"]
    assert healed["module.bn.running_mean"].tolist() == [1.0, 8.0, 0.0]
    assert healed["module.bn.running_var"].tolist() == [1.0, 8.0, 1.0]
    assert torch.isnan(state["bn.running_mean"][1])


def test_a_lone_statistic_of_half_precision_is_made_good_too() -> None:
    """In its own type; other tensors are left."""
    state = {"G": {"running_var": torch.tensor([NAN, 4.0], dtype=torch.float16), "w": torch.tensor([NAN])}}
    healed, layers = heal_statistics(state)
    assert layers == ["G"]
    assert healed["G"]["running_var"].tolist() == [1.0, 4.0]
    assert healed["G"]["running_var"].dtype == torch.float16
    assert torch.isnan(healed["G"]["w"]).all()


def test_a_complex_statistic_is_made_good_too() -> None:
    """It has no sign to be negative by."""
    healed, layers = heal_statistics({"bn.running_var": torch.tensor([complex(NAN, 0), complex(-2, 1)])})
    assert layers == ["bn"]
    assert healed["bn.running_var"].tolist() == [1, -2 + 1j]
