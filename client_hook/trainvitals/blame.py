"""An exception as text, whatever it is: bounded, sendable, and never an exception itself."""

import traceback

MESSAGE = 2000  # characters
TRACE = 60_000  # characters of a traceback
LINE = 4000  # characters of one of its parts: a message may be a whole tensor in print


def name_and_message(error: BaseException) -> str:
    """`ValueError: the message`, or the name alone; as Python prints it at the end of a traceback."""
    message = _said(error)
    return _bounded(_sendable(f"{type(error).__name__}: {message}" if message else type(error).__name__), MESSAGE)


def trace(error: BaseException) -> str:
    """The traceback with causes, contexts and groups, as Python prints it. The beginning and the end are kept."""
    try:
        parts = traceback.format_exception(error)
    except Exception:  # `__str__`, `__notes__`, `__cause__` may be anything
        parts = [*traceback.format_tb(error.__traceback__), name_and_message(error)]
    return _bounded(_sendable("".join(_bounded(part, LINE) for part in parts)), TRACE)


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "<its message cannot be shown>"


def _sendable(text: str) -> str:
    """Lone surrogates, which no encoding knows, as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _bounded(text: str, most: int) -> str:
    """The text with its middle left out where it is too long."""
    if len(text) <= most:
        return text
    cut = f"\n... {len(text) - most} characters left out ...\n"
    head = (most - len(cut)) // 3
    return text[:head] + cut + text[-(most - len(cut) - head) :]
