"""What was heard of a trainer last, in a few words: what a silence began after."""

from trainvitals import wire
from trainvitals_server.store.events import Stored

BUSY = "busy"  # code of a notice: no step ends while the trainer does what the text says
HUNG = "hung"  # code of a notice: no step ends, and the text tells where the training thread is
ORPHANED = "orphaned"  # code of a notice: the process has ended without a word
LONGEST = 200  # characters of a text


def words(record: Stored) -> str:
    """The record in a few words; "" where it says nothing about what the trainer does."""
    match record:
        case wire.Notice(code=code, text=text) if code in (BUSY, HUNG):
            return text.partition("\n")[0][:LONGEST]
        case wire.Validation(step=step):
            return f"validation ended at step {step:,}"
        case wire.Checkpoint(step=step, outcome=outcome):
            return f"checkpoint {outcome} at step {step:,}"
    return ""
