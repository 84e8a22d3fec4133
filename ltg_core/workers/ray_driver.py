"""The process in which Ray lives: it has units done and hands the results on in their order, until its input closes."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import pickle
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

import psutil

from ltg_core.errors import InputError, LtgError, WorkerLost
from ltg_core.workers import wire
from ltg_core.workers.handle import cores

_PATIENCE = 5.0  # seconds for a cluster to answer, or to be left
_SWEEPS = 100
_LEAVING = threading.Lock()
log = logging.getLogger(__name__)

TRIES = 3
"""Processes that may end over one unit, for lack of memory or because somebody ended them, before the work fails."""


def main() -> None:
    """The process. It leads a session, to which everything belongs that Ray starts on this machine."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    first = wire.receive(requests)
    if first is None:
        return
    settings = first[0]
    noise = os.open(Path(settings["folder"]) / "driver.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(noise, 1)  # what Ray prints must not mix with the answers, nor with those of the command line
    os.dup2(noise, 2)
    rounds: SimpleQueue[tuple[wire.Message, bytes]] = SimpleQueue()

    def read() -> None:
        while (request := wire.receive(requests)) is not None:
            rounds.put(request)
        _leave(settings)

    threading.Thread(target=read, name="requests", daemon=True).start()
    try:
        while True:
            _round(settings, *rounds.get(), answers)
    except BrokenPipeError:  # the parent is gone
        _leave(settings)


def _round(settings: Mapping[str, Any], message: wire.Message, content: bytes, answers: IO[bytes]) -> None:
    """Do a round, and say what came out."""
    try:
        for said, result in _done(settings, message, pickle.loads(content)):
            wire.send(answers, said, result)
        end: wire.Message = {"end": True}
    except BrokenPipeError:
        raise
    except _Failed as error:
        end = {"failed": error.args}
    except Exception as error:  # the parent raises it
        log.exception("a round failed")
        told = error if isinstance(error, LtgError) else _in_words(error)
        end = {"failed": [type(told).__name__, str(told), traceback.format_exc()]}
    wire.send(answers, end)


def _leave(settings: Mapping[str, Any]) -> None:
    """The parent is gone or wants no more; results that nobody took are made again. Does not return.

    Ray of this machine is ended as it is: if this process died while it shuts Ray down, its agents would outlive it by
    minutes. A cluster of others is left in good order.
    """
    _LEAVING.acquire()  # for good: whoever comes second waits for the end
    late = threading.Timer(_PATIENCE, _end, [settings["folder"]])
    late.daemon = True
    late.start()
    if settings["address"] and "ray" in sys.modules:
        with contextlib.suppress(Exception):
            sys.modules["ray"].shutdown()
    _end(settings["folder"])


def _end(folder: str) -> None:
    end_session(os.getsid(0))
    shutil.rmtree(folder, ignore_errors=True)
    os.kill(os.getpid(), signal.SIGKILL)


def end_session(session: int) -> None:
    """End all processes of a session but this one, until there are none: one may have been starting another.

    Not by their group, for Ray gives its workers groups of their own.
    """
    for _ in range(_SWEEPS):
        left = [one for one in psutil.process_iter() if one.pid != os.getpid() and _lives(one, session)]
        if not left:
            return
        for one in left:
            with contextlib.suppress(psutil.Error):
                one.kill()
        time.sleep(0.05)


def _lives(process: psutil.Process, session: int) -> bool:
    try:
        return os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, psutil.Error):
        return False


class _Failed(Exception):
    """Of a unit: name, text and trace of its error."""


def _done(
    settings: Mapping[str, Any], message: wire.Message, units: list[bytes]
) -> Iterator[tuple[wire.Message, bytes]]:
    """How many workers there are, then every result."""
    _connect(settings)
    import ray

    size, each = shares(settings, ray.cluster_resources(), len(units))
    yield {"workers": size}, b""
    options = {**message["options"], "device": "cuda" if "num_gpus" in each else "cpu"}
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    data = ray.data.from_items([{"unit": unit} for unit in units], override_num_blocks=len(units)).map(
        Seat,
        fn_constructor_args=(message["make"], options, settings["threads"]),
        compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=2),
        max_restarts=-1,
        max_task_retries=TRIES - 1,
        **each,
    )
    # Nothing is fetched ahead: a result would be told of only when the next one is there.
    for batch in data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for row in batch.to_pylist():
            if row["failed"]:
                raise _Failed(*json.loads(row["failed"]))
            yield {"worker": row["worker"]}, row["result"]


def _connect(settings: Mapping[str, Any]) -> None:
    """Start Ray on this machine, or join the cluster.

    Raises:
        InputError: The cluster cannot be reached.
        LtgError: Ray would listen to more than this machine.
    """
    if settings["address"]:
        reach(settings["address"])  # Ray would try for minutes
    import ray
    import ray.data

    if ray.is_initialized():
        return
    if settings["address"]:
        try:
            ray.init(address=settings["address"], log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise InputError(
                f"no Ray cluster answers at {settings['address']}: {str(error).splitlines()[0]}"
            ) from error
        return
    gpus = {"num_gpus": 0} if settings["device"] == "cpu" else {}
    ray.init(
        address="local",
        num_cpus=cores(),
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=settings["folder"],
        **gpus,
    )
    if ray.util.get_node_ip_address() != "127.0.0.1":
        ray.shutdown()
        raise LtgError("Ray would listen to the network instead of to this machine alone, so it is not used")


def reach(address: str) -> None:
    """Look whether something listens there.

    Raises:
        InputError: Nothing does, or it is no address.
    """
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_PATIENCE).close()
    except (OSError, ValueError) as error:
        raise InputError(
            f"no Ray cluster answers at {address!r} ({error}); give HOST:PORT of a machine where 'ray start --head' ran"
        ) from error


def shares(
    settings: Mapping[str, Any], there: Mapping[str, float], units: int
) -> tuple[int, dict[str, float]]:
    """How many workers, and what each takes of the cluster.

    Args:
        settings: ``workers`` (0 for as many as fit), ``device`` and ``threads`` of each.
        there: What the cluster has, by Ray's names.
        units: How many there are to do.

    Raises:
        InputError: A GPU was asked for and there is none.
    """
    cpus, threads = max(1.0, there.get("CPU", 1.0)), int(settings["threads"])
    gpus = 0.0 if settings["device"] == "cpu" else there.get("GPU", 0.0)
    if settings["device"].startswith("cuda") and not gpus:
        raise InputError("the Ray cluster has no GPU; use --device cpu, or start it on machines with GPUs")
    most = int(settings["workers"] or gpus or cpus // threads or 1)
    each = {"num_cpus": max(0.01, int(100 * min(threads, cpus / most)) / 100)}
    if gpus:
        each["num_gpus"] = 1.0 if most <= gpus else max(0.01, int(100 * gpus / most) / 100)
    return max(1, min(most, units)), each


def _in_words(error: Exception) -> LtgError:
    import ray

    if isinstance(error, ray.exceptions.RayActorError):
        return WorkerLost(
            f"a unit ended {TRIES} processes, for lack of memory, or because somebody ended them; what was finished is "
            "kept"
        )
    lines = str(error).strip().splitlines() or [""]
    return LtgError(f"Ray failed: {type(error).__name__}: {lines[-1]}")


class Seat:
    """A process of Ray's: makes what does the units when the first one comes."""

    def __init__(self, make: str, options: dict[str, Any], threads: int) -> None:
        self._make, self._options, self._threads = make, options, threads
        self._do: Callable[[Any], Any] | None = None
        self._name = f"{socket.gethostname()}:{os.getpid()}"

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        result = failed = b""
        try:
            result = pickle.dumps(self._ready()(pickle.loads(row["unit"])), pickle.HIGHEST_PROTOCOL)
        except Exception as error:  # the owner of the work raises it; this process must live on
            log.exception("a unit failed")
            failed = json.dumps([type(error).__name__, str(error), traceback.format_exc()]).encode()
        return {"failed": failed, "result": result, "worker": self._name}

    def _ready(self) -> Callable[[Any], Any]:
        if self._do is None:
            os.environ["OMP_NUM_THREADS"] = str(self._threads)
            import torch

            torch.set_num_threads(self._threads)
            module, _, function = self._make.partition(":")
            self._do = getattr(importlib.import_module(module), function)(self._options)
        assert self._do is not None
        return self._do
