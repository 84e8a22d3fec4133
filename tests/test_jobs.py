"""The board of jobs: lanes, places in the queue, owners, ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ltg_core.errors import InputError
from ltg_core.jobs import CancelToken, Job, JobBoard, Line, Progress, ProgressFn


class Asking:
    """Who looks at the board."""

    def __init__(self) -> None:
        self.name: str | None = None

    def __call__(self) -> str | None:
        return self.name


@pytest.fixture
def asking() -> Asking:
    return Asking()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    made = threading.Event()
    yield made
    made.set()


@pytest.fixture
def board(asking: Asking) -> JobBoard:
    # Lanes have threads of their own, which are nobody's; the name is that of the test's thread.
    main = threading.current_thread()
    return JobBoard(viewer=lambda: asking() if threading.current_thread() is main else None)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def waits(gate: threading.Event) -> Callable[[ProgressFn, CancelToken], Any]:
    return lambda on_progress, cancel: gate.wait(60)


def test_jobs_of_a_lane_take_turns_and_lanes_do_not_wait_for_each_other(
    board: JobBoard, gate: threading.Event
) -> None:
    order: list[str] = []
    first = board.submit("a", waits(gate), lane="one")
    second = board.submit("b", lambda p, c: order.append("b"), lane="one")
    third = board.submit("c", lambda p, c: order.append("c"), lane="one")
    other = board.submit("d", lambda p, c: "there", lane="two")
    until(lambda: other.ended and first.state == "running")
    assert other.result == "there"
    assert [job.id for job in board.ahead(third)] == [first.id, second.id]
    assert board.ahead(first) == []
    gate.set()
    until(lambda: third.ended)
    assert order == ["b", "c"] and board.ahead(third) == []


def test_a_job_that_waits_is_cancelled_at_once_and_never_starts(
    board: JobBoard, gate: threading.Event
) -> None:
    started: list[int] = []
    board.submit("a", waits(gate))
    waiting = board.submit("b", lambda p, c: started.append(1))
    last = board.submit("c", lambda p, c: started.append(2))
    board.cancel(waiting.id)
    assert waiting.state == "cancelled" and "will not start" in waiting.reason
    assert len(board.ahead(last)) == 1, "it has left the queue"
    gate.set()
    until(lambda: last.ended)
    assert started == [2]


def test_nobody_sees_or_cancels_the_jobs_of_others(
    board: JobBoard, asking: Asking, gate: threading.Event
) -> None:
    for_all = board.submit("open", lambda p, c: None, lane="other", owner="")
    asking.name = "ann"
    hers = board.submit("generate", lambda p, c: (p(Progress(0, 1, run="run-1")), gate.wait(60))[1])
    until(lambda: hers.run == "run-1")
    assert {job.id for job in board.all()} == {for_all.id, hers.id} and board.others() == 0
    asking.name = "bob"
    his = board.submit("explain", lambda p, c: None)
    assert {job.id for job in board.all()} == {for_all.id, his.id}
    assert board.others() == 1 and board.foreign_runs() == {"run-1"}
    assert [job.owner for job in board.ahead(his)] == ["ann"], "its place counts everybody"
    for attempt in (board.get, board.cancel):
        with pytest.raises(InputError, match="not known"):
            attempt(hers.id)
    assert not hers.token.cancelled
    asking.name = None
    assert len(board.all()) == 3 and board.get(hers.id) is hers, "the process itself sees all"


def test_the_end_says_how(board: JobBoard) -> None:
    def wrong(on_progress: ProgressFn, cancel: CancelToken) -> None:
        raise InputError("give a number")

    def broken(on_progress: ProgressFn, cancel: CancelToken) -> None:
        raise KeyError("x")

    def stopped(on_progress: ProgressFn, cancel: CancelToken) -> None:
        cancel.cancel()
        cancel.check()

    jobs = [board.submit("a", work) for work in (wrong, broken, stopped)]
    until(lambda: all(job.ended for job in jobs))
    assert [job.state for job in jobs] == ["failed", "failed", "cancelled"]
    assert [job.reason for job in jobs[:2]] == ["give a number", "KeyError: 'x'"]


def test_old_ones_are_forgotten_but_none_that_goes_on(gate: threading.Event) -> None:
    board = JobBoard(keep=3)
    long = board.submit("long", waits(gate), lane="slow")
    quick = [board.submit("quick", lambda p, c: None) for _ in range(8)]
    until(lambda: all(job.ended for job in quick))
    board.submit("quick", lambda p, c: None)
    found: list[Job] = board.all()
    assert long in found and len(found) <= 4


def test_boards_that_share_a_line_wait_for_each_other_and_see_nothing_but_numbers(
    gate: threading.Event,
) -> None:
    line = Line()
    ann, bob = JobBoard(line=line), JobBoard(line=line)
    hers, his = ann.submit("a", waits(gate)), bob.submit("b", lambda p, c: "done", owner="")
    assert [job.id for job in bob.ahead(his)] == [hers.id] and bob.others() == 1
    assert bob.all() == [his] and not bob.may_see(hers) and ann.all() == [hers]
    with pytest.raises(InputError, match="not known"):
        bob.cancel(hers.id)
    gate.set()
    until(lambda: his.ended)
    assert his.result == "done" and line.open() == []


def test_the_end_of_the_server_stops_what_runs_and_leaves_what_waits(
    asking: Asking, gate: threading.Event
) -> None:
    main, line = threading.current_thread(), Line()
    board = JobBoard(viewer=lambda: asking() if threading.current_thread() is main else None, line=line)

    def looks(on_progress: ProgressFn, cancel: CancelToken) -> None:
        while True:
            cancel.check()
            time.sleep(0.01)

    def lost(on_progress: ProgressFn, cancel: CancelToken) -> None:
        gate.wait(60)
        raise InputError("its process was ended")

    begun = [board.submit("a", looks, lane="one"), board.submit("b", lost, lane="two")]
    waiting = board.submit("c", looks, lane="one")
    mine = board.submit("d", looks, lane="three")
    until(lambda: all(job.state == "running" for job in (*begun, mine)))
    board.cancel(mine.id)
    until(lambda: mine.ended)
    assert {job.id for job in line.stop()} == {job.id for job in begun}  # lanes begin in any order
    gate.set()
    until(lambda: all(job.ended for job in begun))
    assert [job.state for job in begun] == ["interrupted"] * 2
    assert all("the server was stopped" in job.reason for job in begun)
    assert mine.state == "cancelled", "that was its owner"
    late = board.submit("e", looks, lane="three")
    time.sleep(0.2)
    assert waiting.state == late.state == "queued" and line.stop() == []
