"""Models by name: a hub of our own on this machine, and none at all."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ltg_core.errors import Cancelled, InputError, ModelError
from ltg_core.generators import hub
from ltg_core.generators.loading import load_generator
from ltg_core.jobs import CancelToken, Progress

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CLOSED = "http://127.0.0.1:9"


class Hub(ThreadingHTTPServer):
    """Serves one repository, with ranges, as the hub's protocol has it."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.asked = files, list[str]()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *args: object) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.path.split("?")[0]
        self.server.asked.append(path)
        if path.startswith("/api/models/owner/model"):
            siblings = [{"rfilename": name, "size": len(data)} for name, data in self.server.files.items()]
            card = {"license": "openrail"}
            info = {
                "id": "owner/model",
                "sha": COMMIT,
                "siblings": siblings,
                "cardData": card,
                "gated": False,
            }
            self._send(200, json.dumps(info).encode(), {"Content-Type": "application/json"}, body)
            return
        data = self.server.files.get(path.removeprefix(f"/owner/model/resolve/{COMMIT}/"))
        if data is None:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"}, body)
            return
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0] or 0)
        if start and body:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._send(206 if start and body else 200, data[start:] if body else data, headers, body)

    def _send(self, status: int, data: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)


@pytest.fixture
def server(model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A tiny Stable Diffusion, with things beside it that nobody should fetch."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    folder = model_folder("sd 1")
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    unwanted = {
        "model.ckpt": b"pickle",
        "unet/diffusion_pytorch_model.bin": b"pickle",
        "unet/diffusion_pytorch_model.fp16.safetensors": b"half",
        "pipeline.py": b"print('hello')",
        "safety_checker/model.safetensors": b"x",
        "README.md": b"---",
    }
    served = Hub(files | unwanted)
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    yield served
    served.shutdown()
    served.server_close()


def test_size_licence_and_commit_are_known_before_anything_is_fetched(server: Hub) -> None:
    offer = hub.look("owner/model", endpoint=server.endpoint)
    assert offer.commit == COMMIT and offer.licence == "openrail"
    names = [name for name, _ in offer.files]
    assert "model_index.json" in names and "unet/diffusion_pytorch_model.safetensors" in names
    assert not [name for name in names if name.endswith((".ckpt", ".bin", ".py", ".md")) or "fp16" in name]
    assert not [name for name in names if name.startswith("safety_checker")]
    assert offer.size == sum(len(server.files[name]) for name in names)
    assert "licence openrail" in offer.text() and COMMIT in offer.text()
    assert not [path for path in server.asked if "/resolve/" in path]


def test_a_stopped_download_goes_on_and_gives_a_generator(server: Hub, tmp_path: Path) -> None:
    offer = hub.look("owner/model", endpoint=server.endpoint)
    token, seen = CancelToken(), list[Progress]()

    def watch(progress: Progress) -> None:
        seen.append(progress)
        if len(seen) == 4:
            token.cancel()

    with pytest.raises(Cancelled):
        hub.fetch(offer, cache=tmp_path, endpoint=server.endpoint, on_progress=watch, cancel=token)
    with pytest.raises(InputError, match="not complete"):
        hub.cached("owner/model", cache=tmp_path)
    first = len([path for path in server.asked if "/resolve/" in path])
    folder = hub.fetch(offer, cache=tmp_path, endpoint=server.endpoint, on_progress=seen.append)
    assert len(set(server.asked)) > first / 2 and seen[-1].done == max(seen, key=lambda p: p.done).done
    assert load_generator(folder).language == "text"
    assert hub.cached("owner/model", cache=tmp_path) == folder
    assert hub.cached("owner/model", revision=COMMIT, cache=tmp_path) == folder
    assert not list(folder.rglob("*.bin")) and not list(folder.rglob("*.py"))


def test_without_a_network_the_message_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(InputError, match="no connection to the model hub"):
        hub.look("owner/model", endpoint=CLOSED)
    offer = hub.Offer("owner/model", COMMIT, (("model_index.json", 3),), "mit", False)
    with pytest.raises(InputError, match="no connection to the model hub"):
        hub.fetch(offer, cache=tmp_path, endpoint=CLOSED)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="switched off"):
        hub.look("owner/model", endpoint=CLOSED)


def test_a_name_is_looked_for_on_this_machine_only(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not on this machine.*--download"):
        hub.cached("owner/model", cache=tmp_path)
    assert hub.is_name("owner/model") and not hub.is_name("model") and not hub.is_name("../model")
    assert not hub.is_name(str(tmp_path)) and not hub.is_name("a/b/c")
    with pytest.raises(InputError, match="no name of a model"):
        hub.cached("../../etc", cache=tmp_path)


def test_pickles_and_other_layouts_are_not_fetched(server: Hub) -> None:
    whole = dict(server.files)
    del server.files["vae/diffusion_pytorch_model.safetensors"]
    server.files["vae/diffusion_pytorch_model.bin"] = b"pickle"
    with pytest.raises(ModelError, match="'vae' of owner/model has no safetensors"):
        hub.look("owner/model", endpoint=server.endpoint)
    server.files.clear()
    server.files["model.safetensors"] = whole["model_index.json"]
    with pytest.raises(ModelError, match=r"no model_index.json"):
        hub.look("owner/model", endpoint=server.endpoint)
