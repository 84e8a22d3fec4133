"""What the terminal shows: one line of progress on stderr, the answer on stdout, Ctrl-C and SIGTERM as a request
to stop.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from ltg_core import logs
from ltg_core.jobs import CancelToken, Progress

log = logging.getLogger(__name__)

_EVERY = 0.1  # seconds between two changes of the line on a terminal
_EVERY_PLAIN = 5.0  # between two lines in a log file


class Console:
    """One command's conversation.

    Args:
        json: Answer with one JSON document instead of text.
        quiet: No progress.
    """

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        self.json, self.quiet = json, quiet
        self.cancel = CancelToken()
        self._live = sys.stderr.isatty() and not logs.wants_json()
        self._shown, self._last, self._message = False, -1e9, ""
        self._as_json = logs.wants_json()  # the log's form; then there is nothing but log on stderr
        if not self._as_json:
            logging.basicConfig(level=logging.WARNING, format="note: %(message)s", handlers=[_Notes(self)])
        elif not logging.getLogger().handlers:
            logs.configure("command")

    def progress(self, step: Progress) -> None:
        """Show a step; on a terminal in one line that changes, elsewhere a line now and then."""
        if self.quiet:
            return
        now = time.monotonic()
        ended = step.total > 0 and step.done >= step.total
        if now - self._last < (_EVERY if self._live else _EVERY_PLAIN) and not (self._live and ended):
            return
        self._last = now
        text = step.message or "working"
        if step.total > 0:
            text = f"{step.done:,} of {step.total:,} ({min(1.0, step.done / step.total):4.0%})  {text}"
        if self._as_json:
            log.info("%s", text)
        elif self._live:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write("\r\x1b[K" + text[:width])
            self._shown = True
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Within this block the first Ctrl-C or SIGTERM asks the work to stop at its next step, the second ends it
        at once. A scheduler that takes a machine back sends SIGTERM some time before it ends the process.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: Any) -> None:
            if self.cancel.cancelled:
                raise KeyboardInterrupt
            self.cancel.cancel()
            self.note("stopping at the next step; press Ctrl-C again to end at once")

        before = {one: signal.signal(one, ask) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)
            self.clear()

    def answer(self, data: Any, text: str) -> None:
        """Print the result."""
        sys.stdout.write(
            (json.dumps(data, ensure_ascii=False, indent=2, default=_plain) if self.json else text) + "\n"
        )
        sys.stdout.flush()

    def note(self, text: str, level: int = logging.INFO) -> None:
        """A line on stderr that does not disturb the progress; ``level`` is for a log in JSON."""
        if self._as_json:
            log.log(level, "%s", text)
            return
        self.clear()
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def failed(self, text: str) -> None:
        """One clear line about what went wrong."""
        self.note("error: " + " ".join(text.split()), logging.ERROR)

    def stopped(self, reason: str, kept: str) -> None:
        """What an interruption left."""
        self.note(f"stopped: {kept}" if kept else f"stopped: {reason}")

    def hush(self) -> None:
        """Keep the progress bars and notes of third-party libraries off the terminal."""
        from ltg_core.compat import ensure_torchvision

        ensure_torchvision()
        import diffusers
        import transformers

        for library in (diffusers, transformers):
            library.utils.logging.disable_progress_bar()
            library.utils.logging.set_verbosity_error()

    def clear(self) -> None:
        """Take the progress line away."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False


class _Notes(logging.Handler):
    """Warnings of the package as notes between the progress."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("ltg_core"):
            self._console.note(f"note: {record.getMessage()}")


def table(rows: list[list[str]], head: list[str]) -> str:
    """Columns of text; those that hold numbers are set to the right."""
    columns = list(zip(head, *rows, strict=True)) if rows else [(name,) for name in head]
    right = [all(_numeric(cell) for cell in column[1:]) and len(column) > 1 for column in columns]
    widths = [max(len(cell) for cell in column) for column in columns]
    lines = []
    for row in [head, *rows]:
        cells = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _numeric(cell: str) -> bool:
    return bool(cell) and (cell[0].isdigit() or cell[0] in "-–.") and not any(c.isalpha() for c in cell)


def _plain(value: Any) -> Any:
    for method in ("tolist", "to_dict", "_asdict"):
        if hasattr(value, method):
            return getattr(value, method)()
    return str(value)
