"""A watched training whose data come from eight workers: `python loading_training.py fork|spawn DIRECTORY DIARY`."""

import os
import sys
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

import trainvitals
from loops import small_net
from watched_training import Diary, Meter, follow_delivery

WORKERS, STEPS = 8, 60


class Samples(Dataset[torch.Tensor]):
    """Noise."""

    def __len__(self) -> int:
        return 2 * STEPS

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(index))


def main(method: str, directory: str, diary_path: str) -> None:
    """One epoch, with the workers made after the watch."""
    torch.set_num_threads(1)
    diary, meter, counted = Diary(Path(diary_path)), Meter(), [0]
    follow_delivery(diary, counted)
    meter.attach()
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    watch = trainvitals.watch(model, optimizer, name="loading", directory=directory)
    diary.write("run", watch.run_id, os.getpid())
    loader = DataLoader(Samples(), batch_size=2, num_workers=WORKERS, multiprocessing_context=method)
    for step, x in enumerate(loader):
        loss = ((model(x) - x) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watch.step(loss=loss)
        diary.write("step", step, counted[0], *meter.take())
    watch.close()
    diary.write("closed", watch.dropped, counted[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
