"""A trainer whose statistics break at step 20 and are left so: `python broken_training.py DIRECTORY STOP_FILE`.

Prints the run's id, trains until the file STOP_FILE exists, and ends well.
"""

import sys
import time
from pathlib import Path

import torch

import trainvitals
from loops import batches, small_net

BREAKS = 20


def main(directory: str, stop: str) -> None:
    """Train a small network on noise; steps are about ten milliseconds apart."""
    torch.set_num_threads(1)
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with trainvitals.watch(
        model, optimizer, name="broken\x1b[2J", directory=directory, auto_sanitize="off", health_every=25
    ) as watch:
        print(watch.run_id, flush=True)
        for step, x in enumerate(batches(20_000)):
            if step == BREAKS:
                model[1].running_mean[0] = float("inf")
            loss = ((model(x) - x) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watch.step(loss=loss)
            if step % 30 == 29:
                validate(watch, model)
            if Path(stop).exists():
                return
            time.sleep(0.01)


def validate(watch: trainvitals.Watch, model: torch.nn.Module) -> None:
    """Four batches."""
    model.eval()
    with watch.validation(total=4) as val, torch.no_grad():
        for x in batches(4):
            with val.batch() as batch:
                batch.loss = ((model(x) - x) ** 2).mean()
    model.train()


if __name__ == "__main__":
    main(*sys.argv[1:])
