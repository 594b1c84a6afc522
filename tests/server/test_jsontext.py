"""Whatever it is given, there is a JSON text of it."""

import json
from typing import Any

from trainvitals_server.jsontext import MAX_DEPTH, dumps


def test_what_is_nested_too_deep_is_abbreviated() -> None:
    """Rather than refused: it was stored, and must not keep its run from being shown."""
    value: Any = "the bottom"
    for _ in range(3 * MAX_DEPTH):
        value = {"in": [value]}
    text = dumps({"deep": value, "shallow": 1})
    assert b"..." in text
    assert b"bottom" not in text
    assert json.loads(text)["shallow"] == 1
