"""The table of command states."""

from typing import get_args

from trainvitals.wire import CommandState
from trainvitals_server.commands.states import NEXT, may_follow


def test_every_state_is_in_the_table() -> None:
    """And nothing else is."""
    assert set(NEXT) == set(get_args(CommandState))
    assert set().union(*NEXT.values()) <= set(get_args(CommandState))


def test_nothing_goes_back_and_what_has_ended_stays() -> None:
    """A late report of an earlier rung changes nothing."""
    assert not may_follow("applied", "delivered")
    assert not may_follow("delivered", "requested")
    for ended in ("verified", "refused", "failed"):
        assert NEXT[ended] == frozenset()


def test_the_trainers_late_word_overrules_what_the_server_assumed() -> None:
    """A command that was believed to have expired may turn out to have been applied."""
    assert may_follow("expired", "applied")
    assert may_follow("unknown", "verified")
    assert not may_follow("unknown", "delivered")
    assert not may_follow("delivered", "expired")
