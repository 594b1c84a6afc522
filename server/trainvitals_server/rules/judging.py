"""All rules over one block; a rule that raises is switched off for its producer, and the others go on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from trainvitals_server.rules.block import Block, Finding
from trainvitals_server.rules.registry import Rule, rules

Fault = tuple[str, str]  # rule, error


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """A rule's state between blocks. `error` says why the rule was switched off."""

    state: msgspec.Raw = msgspec.Raw(b"\x80")  # an empty map: every field has its default
    error: str = ""


@dataclass(frozen=True)
class Off:
    """In place of the state of a rule that is switched off, and why."""

    error: str


class Memory:
    """What the rules remember of one producer, made of what `changes` told before.

    States are kept as they are between blocks and encoded only when they are asked for, and only those that changed:
    decoding and encoding all of them for each block of one frame took a fifth of the time that judging it took."""

    def __init__(self, stored: Mapping[str, bytes]) -> None:
        self._stored = dict(stored)
        self._states: dict[str, Any] = {}
        self._told: dict[str, Any] = {}  # the states as they are stored

    def judge(self, block: Block) -> tuple[list[Finding], list[Fault]]:
        """Fold a block into every rule's state: the findings in order of their steps, and, once for each rule that
        raised, its name and the error."""
        findings, faults = list[Finding](), list[Fault]()
        for rule in rules():
            try:
                findings += self._fold(rule, block)
            except Exception as error:  # a broken rule must cost neither the commit nor the other rules
                off = Off(f"{type(error).__name__}: {error}")
                self._states[rule.name] = off
                faults.append((rule.name, off.error))
        return sorted(findings, key=lambda finding: finding.step), faults

    def changes(self) -> dict[str, bytes]:
        """The states that changed since they were asked for last, by rule."""
        changed = {name: state for name, state in self._states.items() if self._told.get(name) is not state}
        self._told |= changed
        return {name: _encode(state) for name, state in changed.items()}

    def _fold(self, rule: Rule, block: Block) -> list[Finding]:
        if rule.name not in self._states:
            self._states[rule.name] = self._told[rule.name] = _decode(rule, self._stored.pop(rule.name, b""))
        before = self._states[rule.name]
        if isinstance(before, Off):
            return []
        self._states[rule.name], found = rule.fold(before, block)
        return found


def judge(states: Mapping[str, bytes], block: Block) -> tuple[dict[str, bytes], list[Finding], list[Fault]]:
    """Fold one block into states as they are stored: the new ones, the findings, and the faults."""
    memory = Memory(states)
    findings, faults = memory.judge(block)
    return dict(states) | memory.changes(), findings, faults


def _decode(rule: Rule, stored: bytes) -> Any:
    kept = msgspec.msgpack.decode(stored, type=Kept) if stored else Kept()
    return Off(kept.error) if kept.error else msgspec.msgpack.decode(kept.state, type=rule.state)


def _encode(state: Any) -> bytes:
    if isinstance(state, Off):
        return msgspec.msgpack.encode(Kept(error=state.error))
    return msgspec.msgpack.encode(Kept(state=msgspec.Raw(msgspec.msgpack.encode(state))))
