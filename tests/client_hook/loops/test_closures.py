"""Steps that contain their own forward and backward, once or many times; and backwards within backwards."""

import math

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import trainvitals
from recorded import faults, records_of, series
from training_loops import batch, checkpointed, net, one, seed_all
from trainvitals import wire

STEPS = 5


def total(model: nn.Module) -> float:
    return math.hypot(*(float(p.grad.norm()) for p in model.parameters() if p.grad is not None))


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_lbfgs_is_one_step_however_often_it_evaluates(search: str | None, explicit: bool) -> None:
    """With the norm of the gradient it evaluated last, and its loss if that is given."""
    made = one(torch.optim.LBFGS, lr=0.1, max_iter=6, line_search_fn=search)()
    watch = trainvitals.watch(made.model, made.optimizer, mode="offline")
    norms: list[list[float]] = []
    seed_all()
    for _ in range(STEPS):
        x = batch()
        norms.append([])

        def closure(x: torch.Tensor = x) -> torch.Tensor:
            made.optimizer.zero_grad()
            loss: torch.Tensor = made.model(x).square().mean()
            loss.backward()
            norms[-1].append(total(made.model))
            return loss

        loss = made.optimizer.step(closure)
        if explicit:
            watch.step(loss=loss)
    records = records_of(watch)
    assert faults(records) == []
    assert min(len(evaluations) for evaluations in norms) > 1
    expected = {i: evaluations[-1] for i, evaluations in enumerate(norms)}
    assert series(records, "", wire.GRAD_NORM) == pytest.approx(expected)
    assert list(series(records, "", wire.LOSS)) == (list(range(STEPS)) if explicit else [])


def test_a_closure_of_an_ordinary_optimizer_is_not_a_step_behind() -> None:
    """Its pre-hook sees the gradients of the step before; they are not read there."""
    made = one(torch.optim.SGD, lr=1e-2)()
    watch = trainvitals.watch(made.model, made.optimizer, mode="offline")
    norms = {}

    def closure() -> torch.Tensor:
        made.optimizer.zero_grad()
        loss: torch.Tensor = made.model(batch()).square().mean()
        loss.backward()
        return loss

    seed_all()
    for i in range(STEPS):
        made.optimizer.step(closure)
        norms[i] = total(made.model)
    assert series(records_of(watch), "", wire.GRAD_NORM) == pytest.approx(norms)


def test_a_statistic_that_breaks_in_a_closure_is_repaired_after_the_step() -> None:
    """Not between two evaluations, whose graphs need the buffers."""
    made = one(torch.optim.LBFGS, lr=0.1, max_iter=4)()
    watch = trainvitals.watch(made.model, made.optimizer, mode="offline")
    broken: list[bool] = []

    def closure() -> torch.Tensor:
        made.optimizer.zero_grad()
        broken.append(not trainvitals.check_model_health(made.model).is_healthy)
        if len(watch_steps) == 2 and not any(broken):
            made.model[1].running_var[0] = float("inf")
        loss: torch.Tensor = made.model(batch()).square().mean()
        loss.backward()
        return loss

    watch_steps: list[int] = []
    for i in range(STEPS):
        made.optimizer.step(closure)
        watch_steps.append(i)
    records = records_of(watch)
    assert faults(records) == []
    assert sum(broken) > 1  # several evaluations saw it
    assert [s.step for s in records if isinstance(s, wire.Sanitized)] == [2]


# --- activation checkpointing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("reentrant", [True, False], ids=["reentrant", "not reentrant"])
def test_checkpointed_gradients_are_true_and_steps_single(reentrant: bool) -> None:
    """A forward that runs twice, the second time within the backward, is neither a second step nor a second norm."""
    step = checkpointed(reentrant)
    made = one(torch.optim.SGD, lr=1e-2)()
    watch = trainvitals.watch(made.model, made.optimizer, mode="offline")
    norms: dict[int, float] = {}
    seed_all()
    for i in range(STEPS):
        step(made, i)
        norms[i] = total(made.model)
    records = records_of(watch)
    assert faults(records) == []
    assert series(records, "", wire.GRAD_NORM) == pytest.approx(norms)


class Deep(nn.Module):
    """Checkpointed in the middle; what runs first is registered in the middle too, far from any hook of ours."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.middle = nn.ModuleList([nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6)) for _ in range(7)])
        self.stem = nn.Linear(6, 6)
        self.tail = nn.ModuleList([nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6)) for _ in range(6)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in [*self.middle, *self.tail]:
            x = checkpoint(block, x, use_reentrant=self.reentrant)
        return x


@pytest.mark.parametrize("reentrant", [True, False], ids=["reentrant", "not reentrant"])
def test_what_comes_after_a_backward_within_the_backward_is_read_too(reentrant: bool) -> None:
    """The reentrant kind runs an engine of its own within; its end is not the end."""
    torch.manual_seed(0)
    model = Deep(reentrant)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    watch = trainvitals.watch(model, optimizer, mode="offline")
    assert not any(p._post_accumulate_grad_hooks for p in model.stem.parameters())
    norms: dict[int, float] = {}
    for i in range(STEPS):
        optimizer.zero_grad()
        model(batch()).square().mean().backward()
        norms[i] = float(model.stem.weight.grad.norm())
        optimizer.step()
    records = records_of(watch)
    assert series(records, "stem.weight", wire.GRAD_NORM) == pytest.approx(norms)


def test_the_gradients_of_a_checkpointed_loop_are_read_once_per_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once per checkpoint: that would be a pass over all gradients for each."""
    model = Deep(True)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    watch = trainvitals.watch(model, optimizer, mode="offline")
    reads = []
    read = watch._vitals.read_gradients
    monkeypatch.setattr(watch._vitals, "read_gradients", lambda: (reads.append(1), read()))
    for _ in range(3):
        optimizer.zero_grad()
        model(batch()).square().mean().backward()
        optimizer.step()
    watch.close()
    assert len(reads) == 3


def test_a_double_backward_is_one_step() -> None:
    """A gradient penalty: the gradient of a gradient."""
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    watch = trainvitals.watch(model, optimizer, mode="offline")
    norms = {}
    for i in range(STEPS):
        x = batch().requires_grad_()
        optimizer.zero_grad()
        out = model(x)
        (slope,) = torch.autograd.grad(out.sum(), x, create_graph=True)
        (out.mean() + (slope.norm(dim=1) - 1).square().mean()).backward()
        norms[i] = total(model)
        optimizer.step()
    assert series(records_of(watch), "", wire.GRAD_NORM) == pytest.approx(norms)


def test_a_backward_in_another_thread_is_read_all_the_same() -> None:
    """Some frameworks run it there."""
    import threading

    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    watch = trainvitals.watch(model, optimizer, mode="offline")
    for _ in range(3):
        optimizer.zero_grad()
        loss = model(batch()).square().mean()
        thread = threading.Thread(target=loss.backward)
        thread.start()
        thread.join()
        optimizer.step()
    assert list(series(records_of(watch), "", wire.GRAD_NORM)) == [0, 1, 2]
