"""Two people, one server: a generation survives a reload and a killed server, and is nobody else's business."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Visit, _wait, children, signalled, visiting
from playwright.sync_api import expect

SLOW = 600_000
WANTED = 32


class Server:
    """``python app.py`` on a workspace that is there already; it can be killed and started again."""

    def __init__(self, workspace: Path, generator: Path) -> None:
        from app.settings import free_port

        self.port = free_port("127.0.0.1", 0)
        self.address = f"http://127.0.0.1:{self.port}"
        self._command = [sys.executable, "app.py", "--no-browser", "--port", str(self.port)]
        self._command += ["--workspace", str(workspace), "--generator", str(generator)]
        self._log = workspace.parent / "server.log"

    def start(self) -> None:
        with open(self._log, "a") as log:
            self.process = subprocess.Popen(self._command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        _wait(self.address, self.process, self._log)

    def hold(self) -> None:
        """Let its workers rest, so that people can look at what they do however slow the machine is."""
        signalled(children(self.process.pid), signal.SIGSTOP)

    def go_on(self) -> None:
        """The end of ``hold``."""
        signalled(children(self.process.pid), signal.SIGCONT)

    def end(self, how: signal.Signals) -> None:
        """End it, and see that its workers end with it."""
        workers = children(self.process.pid)
        self.process.send_signal(how)
        self.process.wait(60)
        signalled(workers, signal.SIGCONT)  # those that are held would not hear of it
        assert workers, "the work is done in processes of its own"
        until(lambda: not any(living(pid) for pid in workers))


@pytest.fixture
def own_server(
    browser: Any, _fitted_workspace: Path, tiny_generator: Path, tmp_path: Path
) -> Iterator[Server]:
    shutil.copytree(_fitted_workspace, tmp_path / "ws")
    server = Server(tmp_path / "ws", tiny_generator)
    server.start()
    yield server
    server.go_on()
    with contextlib.suppress(ProcessLookupError):
        server.process.kill()
    server.process.wait(60)


@pytest.mark.slow
def test_work_goes_on_without_its_page_is_seen_by_nobody_else_and_survives_a_killed_server(
    browser: Any, own_server: Server
) -> None:
    with visiting(browser, own_server.address) as ann, visiting(browser, own_server.address) as bob:
        start(ann)
        own_server.hold()
        sees_only_the_length_of_the_queue(bob)
        ann.page.reload()
        expect(chip(ann)).to_contain_text(f"Imagining {WANTED} images")
        chip(ann).click()
        row = ann.page.locator(".jobrow.is-now", has_text="Imagining")
        later = re.compile(rf"(9|17|25) to \d+ of {WANTED}")
        while not later.search(row.inner_text()):
            own_server.go_on()
            time.sleep(1.0)
            own_server.hold()
            ann.page.wait_for_timeout(700)
        ann.shot("queue-running")
        for visit in (ann, bob):
            visit.page.goto("about:blank")
        own_server.end(signal.SIGKILL)
        own_server.start()
        resume(ann, own_server.address)
        bob.page.goto(own_server.address)
        bob.tab("Imagine")
        expect(bob.page.locator("#imagine-results")).to_contain_text("Nothing imagined yet")
        for visit in (ann, bob):
            visit.page.goto("about:blank")
        own_server.end(signal.SIGTERM)


def chip(visit: Visit) -> Any:
    return visit.page.locator("#header details.jobs > summary")


def start(visit: Visit) -> None:
    page = visit.page
    expect(page.locator("#browse-grid .card").first).to_be_visible(timeout=SLOW)
    visit.tab("Imagine")
    number = page.locator("#imagine-number input[type=number]")
    number.fill(str(WANTED))
    number.press("Tab")
    page.locator("#imagine-start").click()
    expect(chip(visit)).to_have_class(re.compile("is-busy"))
    expect(page.locator("#imagine-progress .previews img").first).to_be_visible(timeout=SLOW)


def sees_only_the_length_of_the_queue(visit: Visit) -> None:
    page = visit.page
    chip(visit).click()
    expect(page.locator(".jobs-panel")).to_contain_text("1 job of others waits or runs on this server")
    expect(page.locator(".jobs-panel .jobrow")).to_have_count(0)
    visit.shot("queue-of-others")
    page.keyboard.press("Escape")
    expect(page.locator(".jobs-panel")).to_be_hidden()
    visit.tab("Imagine")
    expect(page.locator("#imagine-start")).to_be_enabled()
    expect(page.locator("#imagine-progress .job")).to_have_count(0)
    expect(page.locator("#header")).not_to_contain_text("Imagining")


def resume(visit: Visit, address: str) -> None:
    page = visit.page
    page.goto(address)
    chip(visit).click()
    row = page.locator(".jobrow.is-interrupted", has_text="Imagining")
    expect(row).to_contain_text("what was finished is kept", timeout=SLOW)
    visit.shot("queue-interrupted")
    row.get_by_role("button", name="Resume").click()
    done = page.locator(".jobrow.is-done", has_text="Imagining")
    expect(done).to_be_visible(timeout=SLOW)
    expect(row).to_have_count(0)
    done.get_by_role("button", name="Show").click()
    expect(page.locator(".jobs-panel")).to_be_hidden()
    expect(page.locator("#imagine-results .trip")).to_have_count(WANTED)
    visit.shot("queue-resumed")


def living(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    return False


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
