"""After `close` there is nothing: no hook, no thread, no descriptor, no reference."""

import gc
import os
import threading
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

import trainvitals
from training_loops import LOOPS, Loop, Made, one, plain, scaled, scaled_step, seed_all

MODULE_HOOKS = (
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)
OPTIMIZER_HOOKS = (
    "_optimizer_step_pre_hooks",
    "_optimizer_step_post_hooks",
    "_optimizer_state_dict_pre_hooks",
    "_optimizer_state_dict_post_hooks",
    "_optimizer_load_state_dict_pre_hooks",
    "_optimizer_load_state_dict_post_hooks",
)


def hooks_of(made: Made) -> dict[str, int]:
    """How many hooks of each kind there are anywhere."""
    modules = [module for model in made.models.values() for module in model.modules()]
    found = {name: sum(len(getattr(module, name)) for module in modules) for name in MODULE_HOOKS}
    found |= {name: sum(len(getattr(o, name)) for o in made.optimizers.values()) for name in OPTIMIZER_HOOKS}
    parameters = [p for module in modules for p in module.parameters(recurse=False)]
    for name in ("_post_accumulate_grad_hooks", "_backward_hooks"):
        found[f"parameter.{name}"] = sum(len(getattr(p, name) or ()) for p in parameters)
    return found


def descriptors() -> Counter[str]:
    """What every open descriptor of this process is, but for the one that lists them."""
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            continue
    return Counter(link for link in links if "/proc/" not in link)


@pytest.mark.parametrize("loop", LOOPS, ids=str)
def test_no_hook_is_left_on_anything(loop: Loop) -> None:
    """Of any kind, in any loop; closed in the middle of a step at that."""
    made, twin = loop.make(), loop.make()
    seed_all()
    for i in range(3):
        loop.step(twin, i)
    watch = trainvitals.watch(made.models, made.optimizers, scaler=made.scaler, ema=made.ema, mode="offline")
    assert hooks_of(made) != hooks_of(twin)
    seed_all()
    for i in range(3):
        loop.step(made, i)
    watch.close()
    assert hooks_of(made) == hooks_of(twin)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no list of descriptors on this platform")
@pytest.mark.parametrize("server", [None, "http://127.0.0.1:9"], ids=["offline", "a server that is not there"])
def test_no_thread_and_no_descriptor_is_left(server: str | None) -> None:
    """Of five watches, one after another, each with two producers."""
    for _ in range(2):  # what torch and Python open once is open then
        others, files = set(threading.enumerate()), descriptors()
        for _ in range(5):
            made = scaled(torch.optim.SGD, lr=1e-3)()
            mode: Any = "offline" if server is None else "online"
            watch = trainvitals.watch(made.model, made.optimizer, scaler=made.scaler, mode=mode, server=server)
            for step in (0, 1, 0, 1):
                scaled_step(made, 0)
                watch.step(step)
            watch.close()
    assert set(threading.enumerate()) <= others
    assert descriptors() <= files


def test_a_closed_watch_is_not_kept_alive() -> None:
    """Not by the model, the optimizer, a handler of signals or a cache; and it keeps nothing of the model alive."""
    made = one(torch.optim.SGD, lr=1e-3)()
    watch = trainvitals.watch(made.model, made.optimizer, mode="offline")
    plain(made, 0)
    ref = weakref.ref(watch)
    watch.close()
    del watch
    gc.collect()
    assert ref() is None
    kept = trainvitals.watch(made.model, made.optimizer, mode="offline")
    plain(made, 0)
    kept.close()
    plain(made, 1)
    model = weakref.ref(made.model[0])
    assert model() is not None


def test_a_model_that_is_dropped_takes_its_watch_along() -> None:
    """Also one that nobody closed: no global holds either."""
    made = one(torch.optim.SGD, lr=1e-3)()
    watch = trainvitals.watch(made.model, made.optimizer, mode="offline")
    plain(made, 0)
    refs = [weakref.ref(watch), weakref.ref(made.model), weakref.ref(made.optimizer)]
    watch.close()
    del watch, made
    gc.collect()
    assert [ref() for ref in refs] == [None, None, None]


def test_the_process_wide_handlers_are_installed_once() -> None:
    """However many watches there were: a chain of them would grow."""
    import signal
    import sys

    made = one(torch.optim.SGD, lr=1e-3)()
    trainvitals.watch(made.model, made.optimizer, mode="offline").close()
    before = sys.excepthook, signal.getsignal(signal.SIGTERM)
    for _ in range(3):
        made = one(torch.optim.SGD, lr=1e-3)()
        trainvitals.watch(made.model, made.optimizer, mode="offline").close()
    assert (sys.excepthook, signal.getsignal(signal.SIGTERM)) == before
