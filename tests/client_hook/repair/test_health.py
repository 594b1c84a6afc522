"""check_model_health names what is corrupt, and what kind of thing it is."""

import torch
from torch import nn

import trainvitals
from loops import batches, small_net, train_fp32


def test_a_healthy_model_is_healthy() -> None:
    """And the report unpacks as the user's script expects."""
    healthy, issues = trainvitals.check_model_health(small_net(), check_weights=True)
    assert healthy
    assert issues == []


def test_each_kind_is_named_with_count_and_first_index() -> None:
    """NaN, Inf and negative variance."""
    model = small_net()
    model[1].running_mean[2] = float("nan")
    model[1].running_var[3:5] = -1.0
    model[4].running_var[7] = float("inf")
    found = {i.key: (i.kind, i.count, i.total, i.first) for i in trainvitals.check_model_health(model).issues}
    assert found == {
        "1.running_mean": ("nan", 1, 8, (2,)),
        "1.running_var": ("negative variance", 2, 8, (3,)),
        "4.running_var": ("inf", 1, 8, (7,)),
    }


def test_weights_are_looked_at_only_when_asked() -> None:
    """They are told apart from statistics, as more serious."""
    model = small_net()
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] = float("inf")
    assert trainvitals.check_model_health(model).is_healthy
    report = trainvitals.check_model_health(model, check_weights=True)
    assert [(i.key, i.group) for i in report.issues] == [("0.weight", "weights")]
    assert not report.is_repairable


def test_corrupt_optimizer_state_is_named() -> None:
    """One NaN step ruins a plain optimizer's moments for good."""
    model = small_net()
    optimizer = torch.optim.Adam(model.parameters())
    train_fp32(model, optimizer, batches(1))
    optimizer.state[model[0].weight]["exp_avg"][0] = float("nan")
    report = trainvitals.check_model_health(model, optimizer=optimizer)
    assert [(i.key, i.group) for i in report.issues] == [("optimizer.0.weight.exp_avg", "optimizer")]


def test_an_issue_reads_as_a_sentence() -> None:
    """For logs."""
    model = nn.Sequential(nn.BatchNorm1d(4))
    model[0].running_mean.fill_(float("nan"))
    assert str(trainvitals.check_model_health(model).issues[0]) == "0.running_mean: 4 of 4 nan, first at index [0]"
