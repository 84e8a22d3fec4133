"""The parent's side: a handle on a worker process, started on first use and replaced when it died."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import ltg_core
from ltg_core import errors, logs
from ltg_core.errors import LtgError, WorkerLost
from ltg_core.jobs import CancelToken, ProgressFn, no_progress
from ltg_core.workers import wire

POLL = 0.1
"""Seconds between looks at the cancel token."""
PATIENCE = 30.0
"""Seconds after which a worker that does not stop when told to is ended, if it does nothing else."""
_START = "from ltg_core.workers.child import main; main()"
_Answers = queue.Queue[tuple[wire.Message, bytes] | None]


class Worker:
    """A process that does tasks, several at once where several are asked for.

    The child is a plain interpreter, not a ``multiprocessing`` child, so that it starts from notebooks and unguarded
    scripts too. It shares nothing with its parent but two pipes, and ends when they close, even when the parent was
    killed.

    Args:
        desk: ``module:function``; the function takes ``options`` and returns ``perform(task, arguments, on_progress,
            cancel)``, whose result is a JSON value. It runs in the child.
        options: JSON values for the desk.
        name: For messages and the log.
        environment: Variables of the child beside those of this process.
        first: ``module:function``, called in the child with ``options`` while it has one thread yet, "" for nothing.
        memory: Bytes that the child may take, 0 for no limit. Where there is an NVIDIA GPU it is not set, for its
            driver reserves far more than it uses.
    """

    def __init__(
        self,
        desk: str,
        options: Mapping[str, Any] | None = None,
        *,
        name: str = "worker",
        environment: Mapping[str, str] | None = None,
        memory: int = 0,
        first: str = "",
    ) -> None:
        self.desk, self.options, self.name, self.memory = desk, dict(options or {}), name, memory
        self.first = first
        self.environment = dict(environment or {})
        self._lock = threading.Lock()
        self._child: _Child | None = None
        atexit.register(self.close)

    @property
    def pid(self) -> int | None:
        """The child's process id, None while there is none."""
        child = self._child
        return child.process.pid if child is not None and child.process.poll() is None else None

    def start(self) -> None:
        """Start the child now, so that its imports are done before the first task."""
        self._living()

    def run(
        self,
        task: str,
        arguments: Mapping[str, Any],
        *,
        on_progress: ProgressFn = no_progress,
        cancel: CancelToken | None = None,
        kill: bool = False,
    ) -> Any:
        """Do one task in the child.

        Args:
            task: A name that the desk knows.
            arguments: JSON values.
            on_progress: Called at every step.
            cancel: The child is told, and stops at its next step.
            kill: Cancelling ends the child at once instead: for work that cannot look at a token.

        Returns:
            A JSON value.

        Raises:
            Cancelled: Asked for through ``cancel``.
            WorkerLost: The child ended.
            LtgError: As in the child; any other error of the child becomes one of these.
        """
        token = cancel or CancelToken()
        token.check()
        child = self._living()
        job = uuid.uuid4().hex
        answers = child.expect(job)
        try:
            child.send({"job": job, "task": task, "arguments": dict(arguments), "about": logs.fields()})
            return self._follow(child, job, answers, on_progress, token, kill)
        except OSError:
            raise self._lost(child) from None
        finally:
            child.forget(job)

    def close(self, grace: float = 0.0) -> None:
        """End the child; a later ``run`` starts another.

        Args:
            grace: Seconds that it may take to end by itself once its input is closed.
        """
        with self._lock:
            child, self._child = self._child, None
        if child is not None:
            child.end(grace)

    def _follow(
        self,
        child: _Child,
        job: str,
        answers: _Answers,
        on_progress: ProgressFn,
        token: CancelToken,
        kill: bool,
    ) -> Any:
        told, preview = 0.0, None
        while True:
            if token.cancelled and not told:
                told = time.monotonic()
                if kill:
                    self.close()  # the work cannot be interrupted in any other way
                    token.check()
                child.send({"cancel": job})
            try:
                answer = answers.get(timeout=POLL)
            except queue.Empty:
                if told and time.monotonic() - told > PATIENCE and child.alone(job):
                    self.close()
                    token.check()
                continue
            if answer is None:
                raise self._lost(child)
            message, pixels = answer
            if "progress" in message:
                step = wire.unpack(message["progress"], pixels, preview)
                preview = step.preview
                on_progress(step)
            elif "failed" in message:
                raise _error(*message["failed"])
            else:
                return message["done"]

    def _living(self) -> _Child:
        with self._lock:
            if self._child is not None and (self._child.lost or self._child.process.poll() is not None):
                self._child.end(0)
                self._child = None
            if self._child is None:
                self._child = _Child(self)
            return self._child

    def _lost(self, child: _Child) -> WorkerLost:
        with self._lock:
            if self._child is child:
                self._child = None
        code = child.end(0.5)
        how = "for lack of memory, or because somebody ended it" if code in (-9, 137) else "see the log"
        return WorkerLost(
            f"the process that did this work ended with code {code} ({how}); what was finished is kept"
        )


class _Child:
    """One process with its pipes, and the queues of those who wait for answers."""

    def __init__(self, worker: Worker) -> None:
        self.lost = False
        self._writing, self._waiting = threading.Lock(), threading.Lock()
        self._queues: dict[str, _Answers] = {}
        held, self._lifeline = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START, str(held)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(worker.environment),
            pass_fds=(held,) if os.name == "posix" else (),
        )
        os.close(held)
        assert self.process.stdin is not None and self.process.stdout is not None  # asked for above
        self._input: IO[bytes] = self.process.stdin
        threading.Thread(target=self._read, name=f"{worker.name}-answers", daemon=True).start()
        with contextlib.suppress(OSError):  # gone already: the first request finds out
            first = {"desk": worker.desk, "options": worker.options, "name": worker.name}
            self.send({**first, "memory": worker.memory, "first": worker.first})

    def expect(self, job: str) -> _Answers:
        with self._waiting:
            found: _Answers = queue.Queue()
            if self.lost:
                found.put(None)
            self._queues[job] = found
            return found

    def forget(self, job: str) -> None:
        with self._waiting:
            self._queues.pop(job, None)

    def alone(self, job: str) -> bool:
        with self._waiting:
            return set(self._queues) <= {job}

    def send(self, message: wire.Message) -> None:
        with self._writing:
            try:
                wire.send(self._input, message)
            except ValueError as error:  # what a closed file says
                raise OSError(str(error)) from error

    def end(self, grace: float) -> int:
        """Let go of it and wait for its end; returns the code."""
        with self._writing, contextlib.suppress(OSError, ValueError):
            self._input.close()
        with self._waiting:
            held, self._lifeline = self._lifeline, -1
        try:
            self.process.wait(max(grace, 0.001))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if held >= 0:
            os.close(held)
        code: int = self.process.returncode
        return code

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as pipe:
            while (answer := wire.receive(pipe)) is not None:
                with self._waiting:
                    waiting = self._queues.get(str(answer[0].get("job")))
                if waiting is not None:
                    waiting.put(answer)
        with self._waiting:
            self.lost = True
            for waiting in self._queues.values():
                waiting.put(None)


def _error(name: str, text: str) -> LtgError:
    """The child's error here; what is no error of this package becomes a plain one with its name."""
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, LtgError):
        return kind(text)
    return LtgError(f"{name}: {text}")


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This package importable; one core left to the parent where there are several."""
    env = dict(os.environ)
    source = str(Path(ltg_core.__file__).resolve().parent.parent)
    env["PYTHONPATH"] = os.pathsep.join(p for p in (source, env.get("PYTHONPATH", "")) if p)
    env.setdefault("OMP_NUM_THREADS", str(max(1, cores() - 1)))
    env.pop("PYTHONWARNINGS", None)  # the caller's strictness is about the caller's code
    return env | dict(extra)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def as_json(value: Any, what: str) -> Any:
    """The value as it will come out at the other side.

    Raises:
        TypeError: It is no JSON value.
    """
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError) as error:
        raise TypeError(f"{what} must be JSON values: {error}") from error
