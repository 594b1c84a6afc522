"""A refused state is kept beside the good one, with a report."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import trainvitals
from loops import batches, small_net, train_fp32


def refuse(path: Path, state: dict[str, Any]) -> trainvitals.CorruptModelError:
    with pytest.raises(trainvitals.CorruptModelError) as caught:
        trainvitals.save_checkpoint(path, state)
    return caught.value


def strict(text: str) -> Any:
    def refuse_constant(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse_constant)


def test_the_report_says_what_when_and_with_what(tmp_path: Path) -> None:
    """Every issue, in strict JSON though the metric is NaN."""
    bad = torch.ones(2, 3)
    bad[1, 2] = float("inf")
    state = {"model": {"a": bad, "b": torch.tensor([float("nan")])}, "step": 7, "metric": float("nan")}
    error = refuse(tmp_path / "x.pth", state)
    report = strict((tmp_path / "x.pth.unhealthy.json").read_text())
    assert error.kept == tmp_path / "x.pth.unhealthy"
    assert [(i["key"], i["kind"], i["count"], i["total"], i["first"]) for i in report["issues"]] == [
        ("a", "inf", 1, 6, [1, 2]),
        ("b", "nan", 1, 1, [0]),
    ]
    assert (report["step"], report["metric"], report["refused"]) == (7, "NaN", str(tmp_path / "x.pth"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", report["time"])
    assert report["versions"]["torch"] == str(torch.__version__)
    assert torch.equal(torch.load(error.kept, weights_only=True)["model"]["a"], bad)
    assert not (tmp_path / "x.pth").exists()


def test_a_corrupt_moment_is_named_with_its_parameter(tmp_path: Path) -> None:
    """An optimizer's state knows its parameters by number only."""
    model = small_net()
    optimizer = torch.optim.Adam(model.parameters())
    watch = trainvitals.watch(model, optimizer, mode="offline")
    train_fp32(model, optimizer, batches(1), lambda step, loss: watch.step(loss=loss))
    optimizer.state[model[3].weight]["exp_avg"][0] = float("nan")
    result = watch.save_checkpoint(tmp_path / "x.pth")
    watch.close()
    assert (result.outcome, result.key) == ("refused", "optimizer.state.4.exp_avg")
    assert result.reason == "72 of 576 nan, parameter 3.weight"
    assert result.unhealthy == tmp_path / "x.pth.unhealthy"
    (issue,) = strict((tmp_path / "x.pth.unhealthy.json").read_text())["issues"]
    assert (issue["group"], issue["parameter"]) == ("optimizer", "3.weight")


def test_named_parameters_of_an_optimizer_are_known_without_a_watch(tmp_path: Path) -> None:
    """torch keeps the names where the optimizer was made from them."""
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.named_parameters(), lr=1.0, momentum=0.9)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    optimizer.state[model.bias]["momentum_buffer"].fill_(float("inf"))
    error = refuse(tmp_path / "x.pth", {"optimizer": optimizer.state_dict()})
    assert (error.key, error.reason) == ("optimizer.state.1.momentum_buffer", "2 of 2 inf, parameter bias")


def test_a_quarantine_that_cannot_be_written_hides_no_refusal(tmp_path: Path) -> None:
    """The corruption is what the user must know."""
    (tmp_path / "x.pth.unhealthy").mkdir()
    error = refuse(tmp_path / "x.pth", {"w": torch.tensor([float("nan")])})
    assert error.key == "w"
    assert "could not be kept either" in error.reason
    assert error.kept is None
