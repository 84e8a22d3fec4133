"""Lines of the log say to which job and run they belong: for people, or (``LTG_LOG=json``) one JSON object a line.

What the work of a thread is about is said once, where it begins (``about``); lines that are logged meanwhile carry
it, whoever logs it. Workers inherit the form, so that the lines of one job can be put together by ``job`` or ``run``.
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

VARIABLE = "LTG_LOG"
"""Environment variable: "json", or anything else for text."""
_FIELDS: contextvars.ContextVar[dict[str, str]] = contextvars.ContextVar("log_fields")


@contextlib.contextmanager
def about(**fields: str) -> Iterator[None]:
    """Within this block lines carry these fields, such as ``job`` and ``run``, beside those of blocks around it."""
    token = _FIELDS.set(_FIELDS.get({}) | {name: value for name, value in fields.items() if value})
    try:
        yield
    finally:
        _FIELDS.reset(token)


def fields() -> dict[str, str]:
    """What the work of this thread is about."""
    return dict(_FIELDS.get({}))


def wants_json() -> bool:
    """Whether the environment asks for one JSON object a line."""
    return os.environ.get(VARIABLE) == "json"


def configure(name: str = "") -> None:
    """Write the log to standard error, in the form that the environment asks for.

    Args:
        name: Of the process, where it is not the only one.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_AsJson(name) if wants_json() else _AsText(name))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)


class _AsText(logging.Formatter):
    """Level, logger, message, and what it is about in brackets."""

    def __init__(self, name: str) -> None:
        super().__init__(f"%(levelname)s {name + ' ' if name else ''}%(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line without a traceback."""
        text = super().formatMessage(record)
        said = " ".join(f"{key}={value}" for key, value in fields().items())
        return f"{text} [{said}]" if said else text


class _AsJson(logging.Formatter):
    """Time (UTC), level, logger, process, message, traceback, and what it is about."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        said: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": self._name or "server",
            "pid": record.process,
            **fields(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            said["error"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False, default=str)
