"""How good each repair is: the next validations after a bad batch, beside a twin that never saw it.

    python benchmarks/repair.py [--seeds 6] [--momentum 0.1 0.01] [--json]

For each seed and BatchNorm momentum a run is trained up to `FORK` and then goes on several ways from that very state.
All but the twin meet the over-exposed batch at `BAD`; the twin leaves that step out. The differences of PSNR (dB) and
SSIM to the twin are taken at the same iteration, so that nothing but the repair differs:

- restore, reset, at once: the hook's own repair, at the first safe point after the statistics broke;
- restore, reset, at the check: by the functions alone, at the next multiple of 100 iterations, `CHECK - BAD` later;
- restore, reset, recalibrate, at validation: likewise, before the first validation.

A restore by hand takes the newest statistics that were healthy. How long a reset lasts is the number of iterations from
the repair at validation until two validations in a row lie within `NEAR` dB of the twin's.
"""

import argparse
import copy
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor

import trainvitals
from trainvitals_server.cli.text import table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # in the workers too, which import this file again
from examples.wavessm.arguments import parse_arguments
from examples.wavessm.metrics import Score
from examples.wavessm.trainer import Training

FORK, BAD, VALIDATION, CHECK = 200, 225, 250, 300  # iterations
VAL_EVERY = 25
LAST = 800  # where the search for the end of a reset gives up
NEAR = 0.1  # dB
CALIBRATION = 16  # batches; normally exposed ones, from before the fork

Scores = dict[int, Score]  # by iteration; a validation without a valid batch is absent


@dataclass
class Way:
    """How one branch goes on. `hook` is the strategy of the hook, "" for none; `repair` is called by hand in the
    iterations `due` names, `last` is the last iteration."""

    due: Callable[[int], bool] = lambda n_iter: False
    repair: Callable[["Branch"], object] = lambda branch: None
    hook: str = ""
    twin: bool = False
    last: int = VALIDATION


@dataclass
class Branch:
    """One branch on its way: the training, and the newest healthy statistics."""

    training: Training
    good: dict[str, Tensor] = field(default_factory=dict)

    def remember(self) -> None:
        """Keep the statistics if they are healthy."""
        if trainvitals.check_model_health(self.training.model).is_healthy:
            self.good = {key: value.clone() for key, value in self.training.model.state_dict().items() if "run" in key}


def at_check(n_iter: int) -> bool:
    """The seed's fix 6."""
    return n_iter % 100 == 0


def at_validation(n_iter: int) -> bool:
    """The seed's fix 4."""
    return n_iter % VAL_EVERY == 0


def restore(branch: Branch) -> object:
    """Bad channels from the newest healthy statistics."""
    model = branch.training.model
    return trainvitals.sanitize_model_bn_stats(model, verbose=False, strategy="restore", good=branch.good)


def reset(branch: Branch) -> object:
    """Bad channels to mean 0 and variance 1."""
    return trainvitals.sanitize_model_bn_stats(branch.training.model, verbose=False)


def recalibrate(branch: Branch) -> object:
    """All statistics anew from clean batches, if one is corrupt."""
    training = branch.training
    if trainvitals.check_model_health(training.model).is_healthy:
        return None
    batches = (training.batches[n_iter].degraded for n_iter in range(100, 100 + CALIBRATION))
    return trainvitals.recalibrate_bn(training.model, batches, forward=lambda model, batch: training.restore(batch))


WAYS = {
    "twin": Way(twin=True, last=LAST),
    "restore at once": Way(hook="restore"),
    "reset at once": Way(hook="reset"),
    "restore at the check": Way(at_check, restore, last=CHECK),
    "reset at the check": Way(at_check, reset, last=CHECK),
    "restore at validation": Way(at_validation, restore),
    "reset at validation": Way(at_validation, reset, last=LAST),
    "recalibrate at validation": Way(at_validation, recalibrate),
}


def follow(start: Training, way: Way) -> Iterator[tuple[int, Score | None]]:
    """Go on from a copy of `start`; yields each validation, None where no batch was valid."""
    branch = Branch(copy.deepcopy(start))
    training = branch.training
    options = {"mode": "offline", "auto_sanitize": way.hook} if way.hook else {"mode": "disabled"}
    with (
        tempfile.TemporaryDirectory() as folder,
        trainvitals.watch(
            training.model,
            training.optimizer,
            scaler=training.scaler,
            directory=folder,
            start_step=FORK + 1,
            **options,  # type: ignore[arg-type]
        ) as watch,
    ):
        for n_iter in range(FORK + 1, way.last + 1):
            if not (way.twin and n_iter == BAD):
                watch.step(loss=training.train_step(n_iter).loss)
            branch.remember()
            if way.due(n_iter):
                way.repair(branch)
            if n_iter % VAL_EVERY == 0:
                training.validate(n_iter, watch)
                point = training.diary.validations[-1]
                yield n_iter, Score(point.psnr, point.ssim) if point.psnr and point.ssim else None


@dataclass(frozen=True)
class Outcome:
    """One seed at one momentum: per way the difference of PSNR and SSIM to the twin at the first validation after the
    repair, and for how many iterations a reset kept the model from within `NEAR` dB (None: longer than was looked)."""

    seed: int
    momentum: float
    psnr: dict[str, float]
    ssim: dict[str, float]
    reset_lasts: int | None


def compare(job: tuple[int, float]) -> Outcome:
    """All ways of one seed and momentum."""
    seed, momentum = job
    torch.set_num_threads(1)
    start = prepare(seed, momentum)
    twin = Twin(start)
    psnr, ssim = {}, {}
    for name, way in WAYS.items():
        if name not in ("twin", "reset at validation"):
            step, score = list(follow(start, way))[-1]
            psnr[name], ssim[name] = difference(score, twin[step])
    lasts, first = wait_for_reset(start, twin)
    psnr["reset at validation"], ssim["reset at validation"] = first
    return Outcome(seed, momentum, psnr, ssim, lasts)


def prepare(seed: int, momentum: float) -> Training:
    """The run up to the fork, without a hook."""
    given = {"iters": FORK, "seed": seed, "bn_momentum": momentum, "bad_steps": BAD, "val_every": LAST}
    torch.manual_seed(seed)
    args = parse_arguments([part for name, value in given.items() for part in (f"--{name}", str(value))])
    training = Training(args)
    for n_iter in range(1, FORK + 1):
        training.train_step(n_iter)
    return training


class Twin(Mapping[int, Score]):
    """The twin's validations, trained as far as somebody asks."""

    def __init__(self, start: Training) -> None:
        self._coming = follow(start, WAYS["twin"])
        self._known: Scores = {}

    def __getitem__(self, step: int) -> Score:
        while step not in self._known:
            coming, score = next(self._coming)
            if score is None:
                raise ValueError(f"expected the twin to stay valid, it was not at iteration {coming}")
            self._known[coming] = score
        return self._known[step]

    def __iter__(self) -> Iterator[int]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


def difference(score: Score | None, twin: Score) -> tuple[float, float]:
    """PSNR and SSIM above the twin's; NaN where no batch was valid."""
    return (score.psnr - twin.psnr, score.ssim - twin.ssim) if score else (float("nan"), float("nan"))


def wait_for_reset(start: Training, twin: Twin) -> tuple[int | None, tuple[float, float]]:
    """Iterations until the reset model is near the twin for good, and the difference at the first validation."""
    near_since, first = None, None
    for step, score in follow(start, WAYS["reset at validation"]):
        if step < VALIDATION:
            continue
        gap = difference(score, twin[step])
        first = first or gap
        if not abs(gap[0]) <= NEAR:
            near_since = None
        elif near_since is not None:
            return near_since - VALIDATION, first
        else:
            near_since = step
    return None, first or (float("nan"), float("nan"))


def summarize(outcomes: Sequence[Outcome]) -> str:
    """A row per momentum and way: median and worst difference over the seeds."""
    rows = []
    for momentum in sorted({outcome.momentum for outcome in outcomes}, reverse=True):
        of_one = [outcome for outcome in outcomes if outcome.momentum == momentum]
        for name in of_one[0].psnr:
            psnr, ssim = ([abs(getattr(one, what)[name]) for one in of_one] for what in ("psnr", "ssim"))
            cells = [
                f"{pick(values):.{places}f}" for values, places in ((psnr, 2), (ssim, 4)) for pick in (_median, max)
            ]
            rows.append([momentum, name, *cells])
        lasts = [f"> {LAST - VALIDATION}" if one.reset_lasts is None else str(one.reset_lasts) for one in of_one]
        rows.append([momentum, f"reset within {NEAR} dB after (iterations)", ", ".join(lasts), "", "", ""])
    heads = ["momentum", "repair", "PSNR median", "worst", "SSIM median", "worst"]
    return table(heads, rows)


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


def main(argv: Sequence[str] | None = None) -> int:
    """Compare and print. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="repair.py", description="PSNR and SSIM after each repair, to a twin.")
    parser.add_argument("--seeds", type=int, default=6, metavar="N", help="seeds 1 to N (6)")
    parser.add_argument("--momentum", type=float, nargs="+", default=[0.1, 0.01], help="of BatchNorm (0.1 0.01)")
    parser.add_argument("--json", action="store_true", help="print one JSON object per seed and momentum")
    options = parser.parse_args(argv)
    jobs = [(seed, momentum) for momentum in options.momentum for seed in range(1, options.seeds + 1)]
    outcomes = []
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for outcome in pool.map(compare, jobs):
            outcomes.append(outcome)
            print(f"seed {outcome.seed}, momentum {outcome.momentum}: done", file=sys.stderr, flush=True)
            if options.json:
                print(json.dumps(vars(outcome)), flush=True)
    if not options.json:
        print(summarize(outcomes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
