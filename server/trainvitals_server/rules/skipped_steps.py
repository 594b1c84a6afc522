"""Rule 11: the grad scaler skips too many steps, or several in a row."""

import msgspec
import numpy as np

from trainvitals import wire
from trainvitals_server.rules.block import Block, Bools, Finding, Ints, signal
from trainvitals_server.rules.levels import Window, changes, latch, streak

RULE = "skipped_steps"
TITLE = "Steps skipped"

WIDTH = 200  # observed frames
MANY, FEW = 10, 4  # fires above 5 % of the window, clears at 2 %
ROW, TAKEN = 5, 10  # critical at so many skipped in a row; over after so many taken in a row


class State(msgspec.Struct, frozen=True):
    """The skipped steps in reach, the running streaks of skipped and of taken steps, and the two latches."""

    window: Window = Window()
    skipped: int = 0
    taken: int = 0
    many: bool = False
    stuck: bool = False


def fold(state: State, block: Block) -> tuple[State, list[Finding]]:
    """Judge the skipped steps of a block."""
    steps, values = signal(block, wire.SKIPPED)
    if not len(steps):
        return state, []
    flags = values > 0
    if not flags.any() and not state.window.hits and not (state.many or state.stuck or state.skipped):
        return State(state.window.pass_by(len(flags)), taken=state.taken + len(flags)), []  # the usual case
    window, counts = state.window.count(flags, WIDTH)
    skipped, taken = streak(state.skipped, flags), streak(state.taken, ~flags)
    latches = latch(
        np.array([state.many, state.stuck]),
        np.stack([counts > MANY, skipped >= ROW], axis=1),
        np.stack([counts <= FEW, taken >= TAKEN], axis=1),
    )
    levels = level(latches[:, 0], latches[:, 1])
    before = level(np.array([state.many]), np.array([state.stuck]))[0]
    findings = [
        tell(int(steps[row]), int(levels[row, 0]), int(counts[row]), int(skipped[row]))
        for row, _ in changes(before, levels)
    ]
    many, stuck = latches[-1].tolist()
    return State(window, int(skipped[-1]), int(taken[-1]), many, stuck), findings


def level(many: Bools, stuck: Bools) -> Ints:
    """2 where steps are skipped in a row, 1 where there are many, as int64[n, 1]."""
    return np.where(stuck, 2, np.where(many, 1, 0)).astype(np.int64)[:, None]


def tell(step: int, level: int, count: int, row: int) -> Finding:
    """What to say when the level has changed."""
    texts = (
        f"Steps are taken again at step {step:,}: {count} of the last {WIDTH} were skipped (at most {MANY}).",
        f"{count} of the last {WIDTH} steps were skipped at step {step:,} (more than {MANY}, which is 5 %).",
        f"{row} steps in a row were skipped up to step {step:,} (limit {ROW}): the weights stand still.",
    )
    return Finding(
        rule=RULE,
        title=TITLE,
        layer="",
        step=step,
        severity="critical" if level == 2 else "warning",
        active=level > 0,
        value=float(row if level == 2 else count),
        threshold=float(ROW if level == 2 else MANY),
        text=texts[level],
    )
