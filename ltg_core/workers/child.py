"""The worker's side: requests from standard input, answers to standard output, until the parent is gone."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from ltg_core import logs
from ltg_core.errors import Cancelled, LtgError
from ltg_core.jobs import CancelToken, Progress, ProgressFn
from ltg_core.workers import wire

log = logging.getLogger(__name__)

Perform = Callable[[str, dict[str, Any], ProgressFn, CancelToken], Any]
_NICE = 5
_FIRST_TO_GO = "500"
_NO_MEMORY = (
    "there was not enough memory for this; ask for less at a time, or have the server started with a larger "
    "--max-worker-gb"
)
_PREVIEWS, _STEPS = 0.25, 0.05  # seconds between two at least: a page looks about once a second


def main() -> None:
    """The process: reads until its input closes, works in threads, and ends with the parent whatever it is doing."""
    _die_with_parent(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is the parent's, which cancels and closes the pipes
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    if hasattr(os, "nice"):
        os.nice(_NICE)  # a page that waits for its server comes before
    first = wire.receive(requests)
    if first is None:
        return
    logs.configure(str(first[0]["name"]))
    _limit_memory(int(first[0].get("memory", 0)))
    if first[0].get("first"):
        _named(str(first[0]["first"]))(first[0]["options"])
    desk = _Desk(answers, first[0]["desk"], first[0]["options"])
    # Schedulers send it to every process of a job: what is done here comes to a point from which it can be resumed.
    signal.signal(signal.SIGTERM, lambda number, frame: desk.stop())
    while (request := wire.receive(requests)) is not None:
        desk.take(request[0])
    os._exit(0)  # every write is atomic, so work may end anywhere


def _die_with_parent(lifeline: int) -> None:
    """Have the kernel end this process when the parent is gone, even while a library holds the interpreter.

    The parent holds the other end of a pipe and never writes; when it dies the pipe hangs up, and SIGIO, left at
    its default, terminates. Where that is not known (Windows), the end of standard input has to do.
    """
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        signal.signal(signal.SIGIO, signal.SIG_DFL)
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)


def _limit_memory(limit: int) -> None:
    """When memory runs out the kernel takes this process rather than the server; beyond ``limit`` bytes work fails."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO)
    without_gpu = os.environ.get("CUDA_VISIBLE_DEVICES") == ""
    if not limit or (Path("/dev/nvidiactl").exists() and not without_gpu):
        return
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _ran_out(error: Exception) -> bool:
    """Whether it was memory; torch says so in words only."""
    return isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error)


def _named(target: str) -> Callable[..., Any]:
    """The function of ``module:function``."""
    module, _, function = target.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


class _Desk:
    """Takes requests; the module that does them is imported by the first, while the pipe is already read."""

    def __init__(self, answers: IO[bytes], target: str, options: dict[str, Any]) -> None:
        self._answers, self._target, self._options = answers, target, options
        self._writing, self._opening = threading.Lock(), threading.Lock()
        self._tokens: dict[str, CancelToken] = {}
        self._perform: Perform | None = None
        threading.Thread(target=self._open_early, name="opening", daemon=True).start()

    def take(self, request: wire.Message) -> None:
        """Begin a task, or cancel one."""
        if "cancel" in request:
            token = self._tokens.get(request["cancel"])
            if token is not None:
                token.cancel()
            return
        token = self._tokens[request["job"]] = CancelToken()
        threading.Thread(target=self._do, args=(request, token), name=request["task"], daemon=True).start()

    def stop(self) -> None:
        """Cancel everything that is being done; this process ends with its parent."""
        for token in list(self._tokens.values()):
            token.cancel()

    def _do(self, request: wire.Message, token: CancelToken) -> None:
        # A task may ask a worker of its own; its lines are about the inner one.
        job, told = request["job"], {**(request.get("about") or {}), "task": str(request["task"])}
        try:
            with logs.about(**told):
                result = self._open()(request["task"], request["arguments"], _Teller(job, self._say), token)
            self._say({"job": job, "done": result})
        except (Cancelled, LtgError) as error:
            self._say({"job": job, "failed": [type(error).__name__, str(error)]})
        except Exception as error:  # the parent raises it; this process must live on
            with logs.about(**told):
                log.exception("the task %s failed", request["task"])
            said = [type(error).__name__, str(error)]
            self._say({"job": job, "failed": ["LtgError", _NO_MEMORY] if _ran_out(error) else said})
        finally:
            self._tokens.pop(job, None)

    def _open(self) -> Perform:
        with self._opening:
            if self._perform is None:
                self._perform = _named(self._target)(self._options)
            assert self._perform is not None
            return self._perform

    def _open_early(self) -> None:
        try:
            self._open()
        except Exception:  # the first task meets it again, and says so
            log.exception("the worker's start failed")

    def _say(self, message: wire.Message, pixels: bytes = b"") -> None:
        with self._writing, contextlib.suppress(OSError, ValueError):  # the parent is gone; so are we, soon
            wire.send(self._answers, message, pixels)


class _Teller:
    """The progress function of one task: says each step, but no more than a page can show."""

    def __init__(self, job: str, say: Callable[..., None]) -> None:
        self._job, self._say = job, say
        self._told, self._shown, self._words = 0.0, 0.0, ""

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        fields, pixels = wire.pack(progress)
        if pixels and now - self._shown < _PREVIEWS:
            fields.pop("shape")
            pixels = b""
        news = progress.changed or progress.run or progress.message != self._words or pixels
        if not news and now - self._told < _STEPS and progress.done < progress.total:
            return
        self._told, self._words = now, progress.message
        self._shown = now if pixels else self._shown
        self._say({"job": self._job, "progress": fields}, pixels)
