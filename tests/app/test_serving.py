"""The end of the server, with connections that would keep it; the order in which a page's clicks are done."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gradio as gr
import pytest
import uvicorn
from gradio.queueing import Queue
from gradio_client import Client

from app.main import build
from app.serving import PAGE, Server, in_order
from app.session import CARRIED

LARGE = 64_000_000  # more than the socket's buffers take


async def large(scope: Any, receive: Any, send: Any) -> None:
    """One answer that is handed over at once, whether it is read or not."""
    if scope["type"] != "http":
        return
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % LARGE)]}
    )
    await send({"type": "http.response.body", "body": b"0" * LARGE})


def test_an_answer_that_nobody_reads_does_not_keep_the_server(caplog: pytest.LogCaptureFixture) -> None:
    asked: dict[str, Any] = {"log_level": "warning", "timeout_graceful_shutdown": 2, "log_config": None}
    server = Server(uvicorn.Config(large, host="127.0.0.1", port=0, lifespan="off", **asked))
    with caplog.at_level(logging.WARNING), socket.socket() as client:
        running = threading.Thread(target=server.run)
        running.start()
        while not server.started:
            time.sleep(0.01)
        client.connect(server.servers[0].sockets[0].getsockname())
        client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert client.recv(15) == b"HTTP/1.1 200 OK"
        server.should_exit = True
        running.join(60)
        assert not running.is_alive()
    assert "Cancel" not in caplog.text and "Traceback" not in caplog.text


def test_clicks_of_a_page_are_done_in_order_and_pages_do_not_wait_for_each_other() -> None:
    both = threading.Barrier(2)

    def click(seen: list[str], name: str) -> tuple[list[str], str]:
        if name == "first":
            time.sleep(0.5)
        elif name == "together":
            both.wait(60)  # of two pages at a time: broken if one waits for the other
        seen = [*seen, name]
        return seen, " ".join(seen)

    with gr.Blocks() as page:
        kept, name, said = gr.State([]), gr.Textbox(), gr.Textbox()
        name.submit(click, [kept, name], [kept, said], api_name="click", **CARRIED)
    page.queue()
    in_order(page._queue)
    try:
        _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
        one, other = (Client(url, verbose=False, httpx_kwargs={"timeout": 240}) for _ in range(2))
        jobs = []
        for text in ("first", "second", "third"):
            jobs.append(one.submit(text, api_name="/click"))
            while page._queue.events_recorded < len(jobs):  # the client sends from a thread of its own
                time.sleep(0.01)
        assert [job.result(60) for job in jobs] == ["first", "first second", "first second third"]
        jobs = [client.submit("together", api_name="/click") for client in (one, other)]
        assert [job.result(60) for job in jobs] == ["first second third together", "together"]
    finally:
        page.close()


def test_a_queue_in_which_nothing_waits_is_looked_at_a_hundred_times_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = 0

    def length(queue: Queue) -> int:
        nonlocal looks
        looks += 1
        return 0

    async def rest(queue: Queue) -> None:
        begun = asyncio.create_task(queue.start_processing())
        await asyncio.sleep(1)
        queue.stopped = True
        await begun

    monkeypatch.setattr(Queue, "__len__", length)
    with gr.Blocks() as page:
        pass
    page.queue()
    in_order(page._queue)
    with ThreadPoolExecutor(1) as pool:  # a browser's client may have left a loop in this thread
        pool.submit(lambda: asyncio.run(rest(page._queue))).result()
    assert 2 < looks < 200


def test_no_click_is_dropped_and_no_redraw_takes_one_back(ctx: Any) -> None:
    """Redraws stand in line with the page's clicks; of two clicks on one part the second is done too."""
    handlers = [one for one in build(ctx).fns.values() if one.fn is not None]
    drawing = [
        one for one in handlers if one.fn.__module__ == "app.main" and one.name in ("selected", "changed")
    ]
    assert len(drawing) > 10 and {one.concurrency_id for one in drawing} == {PAGE}
    acting = [one for one in handlers if any(event == "act" for _, event in one.targets)]
    assert len(acting) > 30 and [one.name for one in acting if one.trigger_mode != "multiple"] == []
