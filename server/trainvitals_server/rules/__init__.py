"""What is wrong with a run, found from its records.

A rule is one module of this folder with a `State` (a msgspec struct with defaults) and a vectorised
`fold(state, block) -> (state, findings)`. It sees each record of a producer once, in order, and what it says must not
depend on how the records were cut into blocks; therefore a rule reads either frames or events, never both. What several
ranks told of a step comes as a block of its own (`apart.py`), as if rank 0 had told it. Windows count observed frames.
Rules are pure: no clock, no database, and of ours only `trainvitals.wire`.

The numbers in the rules' docstrings are those of the project's list of health rules.
"""

from trainvitals_server.rules.block import Block, Finding, Severity, forget_plan
from trainvitals_server.rules.judging import Memory, judge
from trainvitals_server.rules.registry import Rule, rules

__all__ = ["Block", "Finding", "Memory", "Rule", "Severity", "forget_plan", "judge", "rules"]
