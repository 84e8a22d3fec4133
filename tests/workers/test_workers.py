"""A worker process: progress and pictures over a pipe, cancel at the next step, and no end that nobody hears of."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ltg_core.errors import Cancelled, InputError, LtgError, WorkerLost
from ltg_core.jobs import CancelToken, Progress
from ltg_core.workers import Worker, as_json, handle

HERE = Path(__file__).parent
DESK = "worker_desk:desk"


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    made = Worker(DESK, {"colour": "blue"}, environment={"PYTHONPATH": search_path()})
    yield made
    made.close()


def search_path() -> str:
    return os.pathsep.join((str(HERE), str(HERE.parents[1])))


def test_a_task_gets_its_arguments_and_gives_its_result(worker: Worker) -> None:
    answer = worker.run("echo", {"a": [1, None, "ü"], "b": {"c": 0.5}})
    assert answer["given"] == {"a": [1, None, "ü"], "b": {"c": 0.5}}
    assert answer["options"] == {"colour": "blue"} and answer["nice"] >= 5
    assert int(answer["threads"]) >= 1


def test_the_process_lives_on_between_tasks(worker: Worker) -> None:
    worker.run("steps", {"count": 2})
    pid = worker.pid
    worker.run("steps", {"count": 2})
    assert worker.pid == pid is not None


def test_progress_comes_in_order_with_pictures_and_marks(worker: Worker) -> None:
    seen: list[Progress] = []
    worker.run("pictures", {"side": 32}, on_progress=seen.append)
    assert [(p.done, p.total, p.message) for p in seen] == [
        (1, 3, "first"),
        (2, 3, "second"),
        (3, 3, "third"),
    ]
    assert [p.run for p in seen] == ["generate-1", "", ""] and [p.changed for p in seen] == [
        False,
        True,
        False,
    ]
    first = seen[0].preview
    assert first.shape == (2, 32, 32, 3) and first.dtype == np.uint8
    assert first[1, 0, :, 0].tolist() == list(range(32)) and not first[0].any()
    assert seen[2].preview is first, "a step without a picture shows the last one again"


def test_large_pictures_are_made_small_before_they_travel(worker: Worker) -> None:
    seen: list[Progress] = []
    worker.run("pictures", {"side": 1024}, on_progress=seen.append)
    assert seen[0].preview.shape == (2, 256, 256, 3)
    assert seen[0].preview[1, 0, :, 0].tolist() == [i % 256 for i in range(0, 1024, 4)]


def test_a_cancelled_task_stops_at_its_next_step(worker: Worker, tmp_path: Path) -> None:
    token, file = CancelToken(), tmp_path / "steps"

    def stop(progress: Progress) -> None:
        if progress.done == 3:
            token.cancel()

    worker.run("steps", {"count": 1})
    pid = worker.pid
    with pytest.raises(Cancelled, match="what was finished is kept"):
        worker.run("steps", {"count": 10_000, "file": str(file)}, on_progress=stop, cancel=token)
    told = len(file.read_text().split())
    assert 4 <= told < 1000
    assert worker.pid == pid, "the process is kept, with all that it has loaded"
    worker.run("steps", {"count": 3})
    assert len(file.read_text().split()) == told, "nothing of the cancelled task goes on"


def test_what_was_cancelled_before_it_began_never_starts(tmp_path: Path, worker: Worker) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        worker.run("steps", {"count": 1, "file": str(tmp_path / "steps")}, cancel=token)
    assert not (tmp_path / "steps").exists()


def test_errors_arrive_as_what_they_are(worker: Worker) -> None:
    with pytest.raises(InputError, match="give a whole number; 'x' was given"):
        worker.run("fail", {"known": True})
    with pytest.raises(LtgError, match="ZeroDivisionError: by nothing"):
        worker.run("fail", {"known": False})
    with pytest.raises(LtgError, match="TypeError"):
        worker.run("steps", {"number": 3})
    assert worker.run("steps", {"count": 1}) == 1


def test_several_tasks_go_on_at_once_and_answers_are_not_mixed_up(worker: Worker) -> None:
    results: dict[int, int] = {}

    def one(count: int) -> None:
        seen: list[Progress] = []
        results[count] = worker.run("steps", {"count": count}, on_progress=seen.append)
        assert {p.total for p in seen} == {count}

    threads = [threading.Thread(target=one, args=(count,)) for count in (5, 6, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == {5: 5, 6: 6, 7: 7}


def test_a_worker_that_dies_fails_its_task_and_is_replaced(worker: Worker) -> None:
    worker.run("steps", {"count": 1})
    pid = worker.pid
    with pytest.raises(WorkerLost, match=r"code -9 .*memory.*what was finished is kept"):
        worker.run("die", {})
    assert worker.run("steps", {"count": 2}) == 2
    assert worker.pid not in (None, pid)


def test_a_worker_that_is_killed_while_idle_is_replaced_without_a_word(worker: Worker) -> None:
    worker.run("steps", {"count": 1})
    pid = worker.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: worker.pid is None)
    assert worker.run("steps", {"count": 2}) == 2


def test_a_task_that_does_not_heed_the_token_is_ended_with_its_process(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handle, "PATIENCE", 0.3)
    token = CancelToken()
    with pytest.raises(Cancelled):
        worker.run("hold", {}, on_progress=lambda step: token.cancel(), cancel=token)
    assert worker.pid is None
    assert worker.run("steps", {"count": 1}) == 1


def test_closing_ends_the_process_and_tells_who_waits(worker: Worker) -> None:
    def close(step: Progress) -> None:
        threading.Thread(target=worker.close).start()

    with pytest.raises(WorkerLost):
        worker.run("steps", {"count": 10_000}, on_progress=close)
    until(lambda: worker.pid is None)


@pytest.mark.parametrize(("task", "arguments"), (("steps", '{"count": 100000}'), ("hold", "{}")))
def test_no_worker_outlives_its_parent_even_one_that_holds_the_interpreter(task: str, arguments: str) -> None:
    script = (
        "import os, sys\n"
        "from ltg_core.workers import Worker\n"
        f"worker = Worker({DESK!r}, environment={{'PYTHONPATH': {search_path()!r}}})\n"
        "def note(step):\n"
        "    print(worker.pid, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
        f"worker.run({task!r}, {arguments}, on_progress=note)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    until(lambda: not living(int(done.stdout)))


def test_a_worker_says_at_once_what_cannot_be_sent() -> None:
    with pytest.raises(TypeError, match="the arguments must be JSON values"):
        as_json({"a": object()}, "the arguments")
    assert as_json({"a": (1, 2)}, "the arguments") == {"a": [1, 2]}


def living(pid: int) -> bool:
    """Whether a process runs; a zombie, which only waits to be asked for its end, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(true: object) -> None:
    deadline = time.monotonic() + 240
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's limits are Linux's")
def test_work_beyond_the_memory_of_a_worker_fails_in_words_and_the_worker_lives_on(worker: Worker) -> None:
    assert worker.run("grab", {"megabytes": 1})[1] == "500", "the kernel takes it before the server"
    if Path("/dev/nvidiactl").exists():
        pytest.skip("no limit beside a GPU's driver")
    small = Worker(DESK, environment={"PYTHONPATH": search_path()}, memory=2 * 2**30)
    with pytest.raises(LtgError, match="not enough memory"):
        small.run("grab", {"megabytes": 4096})
    pid = small.pid
    assert small.run("grab", {"megabytes": 1})[0] == str(2**20) and small.pid == pid
    small.close()


def test_a_worker_that_is_told_to_end_stops_its_work_and_lives_on_with_its_parent(worker: Worker) -> None:
    told = threading.Event()

    def hear(progress: Progress) -> None:
        if progress.done == 2 and not told.is_set():
            told.set()
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGTERM)

    worker.start()
    pid = worker.pid
    with pytest.raises(Cancelled):
        worker.run("steps", {"count": 100_000}, on_progress=hear)
    assert worker.run("steps", {"count": 1}) == 1 and worker.pid == pid
