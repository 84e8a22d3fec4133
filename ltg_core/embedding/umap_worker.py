"""A process of its own for UMAP: its compiler takes long once, and its loops would stall a server's threads.

The child is a plain interpreter that reads one JSON request a line and answers in JSON lines; arrays travel
as files. It is not a ``multiprocessing`` child, so that it starts from notebooks and unguarded scripts too.
It ends by itself when its input closes, even when the parent was killed.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

import ltg_core
from ltg_core.embedding.layout import Coordinates, MapSettings, lay_out
from ltg_core.errors import LtgError, MissingExtra
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress

POLL = 0.1
"""Seconds between looks at the cancel token."""
_START = "from ltg_core.embedding.umap_worker import serve; serve()"


class UmapWorker:
    """A handle on the child: started on first use, restarted when it died, closed with the program.

    One layout at a time; other threads wait for their turn.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str | None] = queue.Queue()
        atexit.register(self.close)

    @property
    def pid(self) -> int | None:
        """The child's process id, None while there is none."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def run(
        self,
        features: NDArray[np.float32],
        settings: MapSettings,
        *,
        compiled: Path | None = None,
        on_progress: ProgressFn = no_progress,
        cancel: CancelToken | None = None,
    ) -> Coordinates:
        """Lay out features in the child.

        Args:
            features: (N, D) finite.
            settings: As declared.
            compiled: Where a new child may keep compiled code when the usual places cannot be written.
            on_progress: Called at every stage.
            cancel: Ends the child; the next call starts another.

        Raises:
            Cancelled: Asked for through ``cancel``.
            MissingExtra: UMAP is not installed.
            LtgError: The child ended or failed; the message says how.
        """
        token = cancel or CancelToken()
        while not self._turn.acquire(timeout=POLL):
            token.check()
        try:
            token.check()
            require_umap()
            with tempfile.TemporaryDirectory(prefix="map-") as folder:
                given, made = Path(folder, "features.npy"), Path(folder, "coords.npy")
                np.save(given, features)
                request = {"features": str(given), "coords": str(made), "settings": settings.to_dict()}
                self._ask(request, compiled, on_progress, token)
                return np.asarray(np.load(made, allow_pickle=False), dtype=np.float32)
        finally:
            self._turn.release()

    def close(self) -> None:
        """End the child at once; a later ``run`` starts another."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def _ask(
        self, request: dict[str, Any], compiled: Path | None, on_progress: ProgressFn, token: CancelToken
    ) -> None:
        if self.pid is None:
            self.close()
            self._start(compiled)
        process = self._process
        assert process is not None and process.stdin is not None  # just started, with pipes
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
        except OSError as error:
            self.close()
            raise LtgError("the map's process ended before it could be asked; try again") from error
        while True:
            if token.cancelled:
                self.close()  # a fit cannot be interrupted in any other way
                token.check()
            try:
                line = self._answers.get(timeout=POLL)
            except queue.Empty:
                continue
            if line is None:
                code = process.wait()
                self.close()
                raise LtgError(
                    f"the map's process ended with code {code}, mostly for lack of memory; "
                    "try again with a smaller max_points"
                )
            answer = json.loads(line)
            if "error" in answer:
                raise LtgError(f"the map could not be made: {answer['error']}")
            if answer.get("done"):
                on_progress(Progress(4, 4, "map ready"))
                return
            on_progress(Progress(int(answer["stage"]), 4, str(answer["message"])))

    def _start(self, compiled: Path | None) -> None:
        self._answers = (
            queue.Queue()
        )  # nothing that a former child still said is an answer to this one's request
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=_environment(compiled),
        )
        threading.Thread(
            target=_forward_lines, args=(self._process.stdout, self._answers), name="map-answers", daemon=True
        ).start()


def require_umap() -> None:
    """Check that UMAP is installed, without importing it.

    Raises:
        MissingExtra: It is not; the message names the command.
    """
    if importlib.util.find_spec("umap") is None:
        raise MissingExtra("the map needs umap-learn, which is not installed; run: pip install umap-learn")


def serve() -> None:
    """The child's loop: requests from standard input, answers to standard output, until the input closes."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    if hasattr(os, "nice"):
        os.nice(5)  # a page that waits for its server comes before a map

    def say(**answer: Any) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    for line in sys.stdin:
        request = json.loads(line)
        try:
            _answer(request, say)
            say(done=True)
        except BrokenPipeError:
            return  # the parent is gone
        except Exception as error:  # noqa: BLE001  # the parent raises it; this process must live on
            say(error=f"{type(error).__name__}: {error}")


def _answer(request: dict[str, Any], say: Callable[..., None]) -> None:
    features = np.load(request["features"], allow_pickle=False)
    settings = MapSettings.from_dict(request["settings"])
    coords = lay_out(features, settings, lambda stage, message: say(stage=stage, message=message))
    np.save(request["coords"], coords)


def _forward_lines(pipe: IO[str], answers: queue.Queue[str | None]) -> None:
    """Move a child's lines into a queue, so that the asker can watch its cancel token; None at the end."""
    try:
        for line in pipe:
            answers.put(line)
    except (OSError, ValueError):  # the handle was closed while this thread was reading
        pass
    answers.put(None)


def _environment(compiled: Path | None) -> dict[str, str]:
    """The child's environment: this package importable, one thread, a place for compiled code."""
    env = dict(os.environ)
    source = str(Path(ltg_core.__file__).resolve().parent.parent)
    env["PYTHONPATH"] = os.pathsep.join(p for p in (source, env.get("PYTHONPATH", "")) if p)
    env["NUMBA_NUM_THREADS"] = "1"  # a seeded layout is sequential anyway
    env.pop("PYTHONWARNINGS", None)  # the caller's strictness is about the caller's code
    if compiled is not None and "NUMBA_CACHE_DIR" not in env and not _keeps_compiled_code():
        compiled.mkdir(parents=True, exist_ok=True)
        env["NUMBA_CACHE_DIR"] = str(compiled)
    return env


def _keeps_compiled_code() -> bool:
    """Whether compiled code finds its usual places: beside the package or in the user's cache folder."""
    spec = importlib.util.find_spec("umap")
    beside = [Path(place) for place in (spec.submodule_search_locations or ())] if spec is not None else []
    return any(os.access(place, os.W_OK) for place in (*beside, Path.home()))
