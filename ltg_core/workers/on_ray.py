"""Units of work on Ray: Ray Data with one actor a GPU, or one a few cores, each of which loads its models once.

What this process starts is on 127.0.0.1, asks for a token and reports nothing to anybody; a cluster that was started
by others (``address``) is as they made it. Ray makes a unit again whose process ended, in another process.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import importlib.util
import logging
import os
import pickle
import queue
import secrets
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from ltg_core.errors import InputError, LtgError, MissingExtra, WorkerLost
from ltg_core.jobs import CancelToken
from ltg_core.workers.engine import Engine, EngineSettings, R, There, U
from ltg_core.workers.handle import cores, error_of

log = logging.getLogger(__name__)

ROUND = 2000
"""Units that Ray holds at a time; between two rounds the processes load their models again."""
TRIES = 3
"""Processes that may end over one unit, for lack of memory or because somebody ended them, before the work fails."""
_AHEAD = 2  # finished units that wait for this process at most
_POLL = 0.1  # seconds between looks at the cancel token
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DATA_DISABLE_PROGRESS_BARS": "1"}


class Ray(Engine):
    """Ray's processes, started at the first use and kept until ``close``.

    All calls of Ray are made by one thread that lives as long as this process: the kernel ends what Ray starts with the
    thread that started it, so that nothing is left over when this process is killed. Work of several threads waits.
    """

    def __init__(self, settings: EngineSettings) -> None:
        if importlib.util.find_spec("ray") is None:
            raise MissingExtra("the engine 'ray' needs Ray: pip install -r requirements-ray.txt")
        self.settings = settings
        self._rounds: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._folder: str | None = None
        self._size, self._seen = 0, set[str]()
        atexit.register(self.close)

    @property
    def words(self) -> str:
        """Such as "2 workers", and how many were lost."""
        if not self._size:
            return "workers"
        lost = max(0, len(self._seen) - self._size)
        count = f"{self._size} worker{'s' if self._size != 1 else ''}"
        return f"{count}, {lost} lost and replaced" if lost else count

    @property
    def processes(self) -> frozenset[str]:
        """``host:pid`` of those that did the units of the last round so far."""
        return frozenset(self._seen)

    def map(
        self, units: Iterable[U], here: Callable[[U], R], there: There[U], cancel: CancelToken
    ) -> Iterator[tuple[U, R]]:
        """As ``Engine.map`` says; ``here`` is not used."""
        left = iter(units)
        while part := list(islice(left, ROUND)):
            cancel.check()
            yield from self._round(part, there, cancel)

    def _round(self, part: list[U], there: There[U], cancel: CancelToken) -> Iterator[tuple[U, Any]]:
        packed = [pickle.dumps(there.pack(unit), pickle.HIGHEST_PROTOCOL) for unit in part]
        one = _Round(packed, there.make, dict(there.options()))
        self._rounds.put(lambda: self._pull(one))
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="ray", daemon=True)
            self._thread.start()
        try:
            for unit in part:
                yield unit, one.next(cancel)
            one.next(cancel)  # the processes have let go of their models
        finally:
            one.over.set()

    def close(self) -> None:
        """End Ray's processes, or leave the cluster."""
        folder, self._folder = self._folder, None
        if folder is not None or (self.settings.address and self._size):
            import ray

            ray.shutdown()
        self._size = 0
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    # --- in the thread ----------------------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            self._rounds.get()()

    def _pull(self, one: _Round) -> None:
        """Have the units done, and hand the results on as fast as they are taken."""
        try:
            if one.over.is_set():
                return
            self._connect()
            with contextlib.closing(self._rows(one)) as rows:
                for row in rows:
                    self._seen.add(row["worker"])
                    kind, *said = pickle.loads(row["result"])
                    if not one.hand(said[0] if kind == "done" else error_of(*said)):
                        return
            one.hand(None)
        except LtgError as error:
            one.hand(error)
        except Exception as error:  # whatever Ray says, whoever waits must hear of it
            log.exception("Ray failed")
            one.hand(_in_words(error))

    def _rows(self, one: _Round) -> Generator[Mapping[str, Any], None, None]:
        import ray
        import torch

        threads = torch.get_num_threads()  # their number decides the last bits
        self._size, each = _shares(self.settings, ray.cluster_resources(), threads, len(one.units))
        self._seen = set()
        log.info("ray: %d units for %d workers, %s each", len(one.units), self._size, each)
        device = "cuda" if "num_gpus" in each else "cpu"
        units = [{"unit": unit} for unit in one.units]
        data = ray.data.from_items(units, override_num_blocks=len(units)).map(
            _Seat,
            fn_constructor_args=(one.make, {**one.options, "device": device}, threads),
            compute=ray.data.ActorPoolStrategy(size=self._size, max_tasks_in_flight_per_actor=2),
            max_restarts=-1,
            max_task_retries=TRIES - 1,
            **each,
        )
        data.context.execution_options.preserve_order = True
        data.context.enable_progress_bars = False
        yield from data.iter_rows()

    def _connect(self) -> None:
        """Start Ray on this machine, or join the cluster.

        Raises:
            InputError: The cluster cannot be reached.
            LtgError: Ray would listen to more than this machine.
        """
        alone = not self.settings.address
        os.environ.update(_QUIET)
        if alone and "RAY_AUTH_TOKEN" not in os.environ:
            os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
        if (
            alone
        ):  # read when Ray is imported: whether it is one of many machines. Without it Ray stays on 127.0.0.1
            os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        import ray
        import ray.data

        logging.getLogger("ray").setLevel(logging.ERROR)
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        if ray.is_initialized():
            return
        given: dict[str, Any] = {"configure_logging": False, "log_to_driver": False}
        if not alone:
            try:
                ray.init(address=self.settings.address, **given)
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise InputError(
                    f"no Ray cluster answers at {self.settings.address}: {str(error).splitlines()[0]}"
                ) from error
            return
        self._folder = tempfile.mkdtemp(prefix="ltg-ray-")
        gpus = {"num_gpus": 0} if self.settings.device == "cpu" else {}
        ray.init(
            address="local",
            num_cpus=cores(),
            include_dashboard=False,
            _temp_dir=self._folder,
            **gpus,
            **given,
        )
        if ray.util.get_node_ip_address() != "127.0.0.1":
            ray.shutdown()
            raise LtgError(
                "Ray was loaded in this process before and would listen to the network; start it in a process of its "
                "own, or start a cluster with 'ray start' and name its address"
            )


class _Round:
    """Units on their way, and the results that wait for their owner.

    Attributes:
        units: Packed.
        make: Where the function of a unit comes from.
        options: What it is made of.
        over: Set when nobody waits any more.
    """

    def __init__(self, units: list[bytes], make: str, options: dict[str, Any]) -> None:
        self.units, self.make, self.options = units, make, options
        self.over = threading.Event()
        self._answers: queue.Queue[Any] = queue.Queue(_AHEAD)

    def next(self, cancel: CancelToken) -> Any:
        """The next result; an error is raised."""
        while True:
            cancel.check()
            with contextlib.suppress(queue.Empty):
                answer = self._answers.get(timeout=_POLL)
                if isinstance(answer, Exception):
                    raise answer
                return answer

    def hand(self, answer: Any) -> bool:
        """Give a result to whoever waits; False where nobody does."""
        while not self.over.is_set():
            with contextlib.suppress(queue.Full):
                self._answers.put(answer, timeout=_POLL)
                return True
        return False


def _shares(
    settings: EngineSettings, there: Mapping[str, float], threads: int, units: int
) -> tuple[int, dict[str, float]]:
    """How many workers, and what each takes.

    Raises:
        InputError: A GPU was asked for and there is none.
    """
    cpus = max(1.0, there.get("CPU", 1.0))
    gpus = 0.0 if settings.device == "cpu" else there.get("GPU", 0.0)
    if settings.device.startswith("cuda") and not gpus:
        raise InputError("the Ray cluster has no GPU; use --device cpu, or start it on machines with GPUs")
    most = settings.workers or int(gpus) or int(cpus // threads) or 1
    size = max(1, min(most, units))
    each = {"num_cpus": max(0.01, int(100 * min(threads, cpus / most)) / 100)}
    if gpus:
        each["num_gpus"] = 1.0 if most <= gpus else max(0.01, int(100 * gpus / most) / 100)
    return size, each


def _in_words(error: Exception) -> LtgError:
    import ray

    if isinstance(error, ray.exceptions.RayActorError):
        return WorkerLost(
            f"a unit ended {TRIES} processes, for lack of memory, or because somebody ended them; what was finished is "
            "kept"
        )
    return LtgError(f"Ray failed: {type(error).__name__}: {str(error).strip().splitlines()[-1]}")


class _Seat:
    """A process of Ray's: makes what does the units when the first one comes."""

    def __init__(self, make: str, options: dict[str, Any], threads: int) -> None:
        self._make, self._options, self._threads = make, options, threads
        self._do: Callable[[Any], Any] | None = None
        self._name = f"{socket.gethostname()}:{os.getpid()}"

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            answer: tuple[Any, ...] = ("done", self._ready()(pickle.loads(row["unit"])))
        except Exception as error:  # the owner of the work raises it; this process must live on
            if not isinstance(error, LtgError):
                log.exception("a unit failed")
            answer = ("failed", type(error).__name__, str(error))
        return {"result": pickle.dumps(answer, pickle.HIGHEST_PROTOCOL), "worker": self._name}

    def _ready(self) -> Callable[[Any], Any]:
        if self._do is None:
            os.environ["OMP_NUM_THREADS"] = str(self._threads)
            import torch

            torch.set_num_threads(self._threads)
            module, _, function = self._make.partition(":")
            self._do = getattr(importlib.import_module(module), function)(self._options)
        assert self._do is not None
        return self._do
