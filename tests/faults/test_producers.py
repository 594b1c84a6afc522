"""Several processes and one run: workers of a DataLoader, which are none of it, and two trainings, which both are."""

import subprocess
import sys
from collections.abc import Callable

import pytest

import loading_training
from fault_table import Row
from ledger import Ledger
from ward import Training, Ward

Enter = Callable[..., None]


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.chaos)])
def test_eight_workers(visited: Ward, enter: Enter, method: str) -> None:
    """One producer, every step, and an end."""
    diary = visited.folder / "loading"
    command = [sys.executable, loading_training.__file__, method, str(visited.home), str(diary)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    ledger = Ledger(diary).read()
    row = Row(
        f"DataLoader with 8 workers, {method}", "one producer, no deadlock", recovery=0.0, hook=ledger.hook(warm=5)
    )
    row.count(visited.audit([ledger]))
    enter(row)
    assert (len(ledger.producers), len(ledger.steps)) == (1, loading_training.STEPS)
    assert visited.producer_count(ledger.run) == 1
    assert row.acked == row.stored == ledger.only.last + 1


def test_two_trainings_of_one_name(visited: Ward, enter: Enter) -> None:
    """Two producers of one run, at the same time; everything of both is kept."""
    pair: list[Training] = [visited.train(run="shared") for _ in range(2)]
    with visited.fault("two trainers, one run id", "two producers, both kept") as row:
        for training in pair:
            training.under_way()
        for training in pair:
            training.go_on(0.5)
        assert [training.end() for training in pair] == [0, 0]
    enter(row)
    assert visited.producer_count("shared") == 2
    assert row.acked == row.stored == sum(training.ledger.only.last + 1 for training in pair)
