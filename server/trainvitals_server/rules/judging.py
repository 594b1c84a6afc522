"""All rules over one block; a rule that raises is switched off for its producer, and the others go on."""

from collections.abc import Mapping

import msgspec

from trainvitals_server.rules.block import Block, Finding
from trainvitals_server.rules.registry import Rule, rules

Fault = tuple[str, str]  # rule, error


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """A rule's state between blocks. `error` says why the rule was switched off."""

    state: msgspec.Raw = msgspec.Raw(b"\x80")  # an empty map: every field has its default
    error: str = ""


def judge(states: Mapping[str, bytes], block: Block) -> tuple[dict[str, bytes], list[Finding], list[Fault]]:
    """Fold a block into every rule's state: the new states, the findings in order of their steps, and, once for each
    rule that raised, its name and the error."""
    after, findings, faults = dict(states), list[Finding](), list[Fault]()
    for rule in rules():
        try:
            after[rule.name], found = _fold(rule, states.get(rule.name), block)
            findings += found
        except Exception as error:  # a broken rule must cost neither the commit nor the other rules
            reason = f"{type(error).__name__}: {error}"
            after[rule.name] = msgspec.msgpack.encode(Kept(error=reason))
            faults.append((rule.name, reason))
    return after, sorted(findings, key=lambda finding: finding.step), faults


def _fold(rule: Rule, before: bytes | None, block: Block) -> tuple[bytes, list[Finding]]:
    kept = msgspec.msgpack.decode(before, type=Kept) if before else Kept()
    if kept.error:
        return before or b"", []
    state, found = rule.fold(msgspec.msgpack.decode(kept.state, type=rule.state), block)
    return msgspec.msgpack.encode(Kept(state=msgspec.Raw(msgspec.msgpack.encode(state)))), found
