"""Parameters of every kind: what is absent is absent, what is shared counts once, and no kind spoils the others."""

import math
from typing import Any

import pytest
import torch
from torch import nn

import trainvitals
from loops import of_type
from recorded import declared, faults, records_of, series
from training_loops import batch, net, odd, odd_step, seed_all
from trainvitals import wire


def odd_run(steps: int = 6) -> tuple[list[wire.Record], dict[str, dict[int, float]]]:
    """What was recorded of the odd model, and the norms of an unwatched twin: name -> step -> norm."""
    twin, norms = odd(), {}
    seed_all()
    for i in range(steps):
        odd_step(twin, i)
        for name, parameter in twin.model.named_parameters():
            if parameter.grad is not None:
                grad = parameter.grad.coalesce().to_dense() if parameter.grad.is_sparse else parameter.grad
                norms.setdefault(name, {})[i] = float(grad.norm())
    made = odd()
    watch = trainvitals.watch(made.models, made.optimizers, mode="offline")
    seed_all()
    for i in range(steps):
        odd_step(made, i)
    return records_of(watch), norms


def test_every_kind_of_gradient_has_its_true_norm() -> None:
    """Sparse (with indices that repeat), complex, float64, scalar, shared."""
    records, norms = odd_run()
    assert faults(records) == []
    assert {"words.weight", "wave", "wide", "scalar", "first.weight"} <= set(norms)
    for name, expected in norms.items():
        assert series(records, name, wire.GRAD_NORM) == pytest.approx(expected, rel=1e-5)


def test_an_unused_parameter_is_absent_a_frozen_one_has_no_series() -> None:
    """And what has no elements has a norm of 0."""
    records, _ = odd_run()
    names = declared(records, wire.GRAD_NORM)
    assert series(records, "unused.weight", wire.GRAD_NORM) == {}
    assert not [name for name in names if name.startswith("frozen")]
    assert set(series(records, "empty", wire.GRAD_NORM).values()) == {0.0}


def test_a_shared_parameter_counts_once_in_the_total() -> None:
    """Under the first of its names."""
    records, norms = odd_run()
    assert "second.weight" not in declared(records, wire.GRAD_NORM)
    first = math.hypot(*(steps[0] for steps in norms.values()))
    assert series(records, "", wire.GRAD_NORM)[0] == pytest.approx(first, rel=1e-5)


def test_a_sparse_gradient_in_two_sparse_dimensions_is_summed_too() -> None:
    """Indices that repeat in both; the order they come in is of no account."""
    weight = nn.Parameter(torch.zeros(3, 4))
    model = nn.ParameterList([weight])
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    watch = trainvitals.watch(model, optimizer, mode="offline")

    class Sparse(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.sum()

        @staticmethod
        def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
            index = torch.tensor([[2, 0, 2, 0], [1, 3, 1, 0]])
            return torch.sparse_coo_tensor(index, torch.tensor([1.0, 5.0, 2.0, 4.0]), (3, 4), check_invariants=True)

    Sparse.apply(weight).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    assert series(records_of(watch), "0", wire.GRAD_NORM)[0] == pytest.approx(math.sqrt(3**2 + 5**2 + 4**2))


def test_a_sparse_gradient_without_entries_is_zero() -> None:
    """An embedding whose words all were padding."""
    model = nn.Embedding(5, 3, sparse=True)
    optimizer = torch.optim.SparseAdam(list(model.parameters()))
    watch = trainvitals.watch(model, optimizer, mode="offline")
    model(torch.empty(0, dtype=torch.long)).sum().backward()
    optimizer.step()
    assert series(records_of(watch), "weight", wire.GRAD_NORM) == {0: 0.0}


def test_a_kind_of_gradient_that_cannot_be_measured_disables_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the complex ones."""
    foreach_norm = torch._foreach_norm

    def no_complex(tensors: list[torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        if tensors[0].shape[-1:] == (2,):
            raise RuntimeError("no complex today")
        return foreach_norm(tensors, *args, **kwargs)

    monkeypatch.setattr(torch, "_foreach_norm", no_complex)
    made = odd()
    watch = trainvitals.watch(made.models, made.optimizers, mode="offline", health_every=1000)
    for i in range(6):
        odd_step(made, i)
    records = records_of(watch)
    assert [probe for probe, _ in faults(records)] == [
        "gradients",
        *["gradients of torch.complex64, torch.strided"] * 3,
    ]
    assert series(records, "wave", wire.GRAD_NORM) == {}
    assert len(series(records, "wide", wire.GRAD_NORM)) == len(series(records, "first.weight", wire.GRAD_NORM)) == 6


def test_heads_that_take_turns_are_all_seen() -> None:
    """With no parameter in common, whichever carried a hook so far."""
    heads = nn.ModuleList(nn.Sequential(*(nn.Linear(4, 4) for _ in range(8))) for _ in range(5))
    optimizer = torch.optim.SGD(heads.parameters(), 1e-3)
    watch = trainvitals.watch(heads, optimizer, mode="offline")
    for i in range(20):
        optimizer.zero_grad()
        heads[i % 5](torch.ones(1, 4)).sum().backward()
        optimizer.step()
    records = records_of(watch)
    assert sorted(i for k in range(5) for i in series(records, f"{k}.3.weight", wire.GRAD_NORM)) == list(range(20))
    for k in range(5):
        assert set(series(records, f"{k}.0.weight", wire.GRAD_NORM)) == {i for i in range(20) if i % 5 == k}


def test_a_gradient_that_nothing_announced_is_found_at_the_next_step() -> None:
    """Where only parameters without a hook take part, the hooks move to them, once."""
    parts = nn.ModuleDict({f"{i:02d}": nn.Linear(2, 2) for i in range(40)})
    optimizer = torch.optim.SGD(parts.parameters(), 1e-3)
    watch = trainvitals.watch(parts, optimizer, mode="offline")
    used = [key for key in parts if not any(p._post_accumulate_grad_hooks for p in parts[key].parameters())]
    for i in range(6):
        optimizer.zero_grad()
        for key in used[i % 2 :: 2]:
            parts[key](torch.ones(1, 2)).sum().backward()
        optimizer.step()
    records = records_of(watch)
    for turn in (0, 1):
        seen = set(series(records, f"{used[turn]}.weight", wire.GRAD_NORM))
        assert seen == {i for i in range(6) if i % 2 == turn} - {turn}


def test_a_backward_per_layer_is_one_step_with_all_of_them() -> None:
    """Whatever came last is read as a whole."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    watch = trainvitals.watch(model, optimizer, mode="offline")
    for _ in range(3):
        optimizer.zero_grad()
        hidden = model[:4](batch())
        (model[4:](hidden.detach()).mean()).backward()
        hidden.mean().backward()
        optimizer.step()
    records = records_of(watch)
    assert all(len(series(records, name, wire.GRAD_NORM)) == 3 for name, _ in model.named_parameters())


def test_huge_finite_gradients_are_not_called_infinite() -> None:
    """Their squares overflow float32; no event, a finite total."""
    model = nn.Linear(4, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    watch = trainvitals.watch(model, optimizer, mode="offline")
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.full((2, 4), 1e25)).sum().backward()
        optimizer.step()
    records = records_of(watch)
    assert of_type(records, wire.NonFinite) == []
    assert series(records, "", wire.GRAD_NORM)[0] == pytest.approx(4e25)
