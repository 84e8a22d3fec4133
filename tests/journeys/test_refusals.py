"""Five hostile uploads through the page: each is refused in words, and nothing else happens."""

from __future__ import annotations

import json
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Visit
from playwright.sync_api import expect

FILES = "input[type=file]"


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return exec, (f"open({str(self.marker)!r}, 'w')",)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder with the five."""
    torch.save({"state_dict": Hostile(tmp_path / "ran")}, tmp_path / "weights.pt")
    header = json.dumps(
        {"fc.weight": {"dtype": "F32", "shape": [10**6, 10**7], "data_offsets": [0, 4 * 10**13]}}
    )
    (tmp_path / "huge.safetensors").write_bytes(struct.pack("<Q", len(header)) + header.encode() + bytes(64))
    with zipfile.ZipFile(tmp_path / "photos.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for number in range(3):
            file.writestr(f"stop/{number}.bmp", bytes(40 * 2**20))
    (tmp_path / "drawing.png").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" onload="window.hit=1"><script>window.hit=1</script></svg>'
    )
    size = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    (tmp_path / "lying.png").write_bytes(b"\x89PNG\r\n\x1a\n" + size + pixels)
    return tmp_path


def test_five_hostile_uploads_meet_five_refusals_in_words(visit: Visit, hostile: Path) -> None:
    page = visit.page
    expect(page.locator("#header .chip", has_text="Accuracy")).to_contain_text("%", timeout=300_000)
    before = page.locator("#header .chip", has_text="Samples").text_content() or ""
    toast = page.locator(".toast-body")

    visit.tab("Browse")
    picture = page.locator(FILES).first
    picture.set_input_files(hostile / "drawing.png")
    expect(toast.last).to_contain_text("SVG drawing, a document that can hold programs")
    picture.set_input_files(hostile / "lying.png")
    expect(toast.last).to_contain_text("more pixels than the limit of 64 million")
    visit.shot("refused-pictures")

    for name, words in (
        ("weights.pt", "refused unread: it asks for"),
        ("huge.safetensors", "not a readable safetensors file"),
    ):
        setup_step(visit, 0)
        page.locator("#setup-weights").locator(FILES).set_input_files(hostile / name)
        expect(toast.last).to_contain_text(words)
        visit.shot(f"refused-{name.split('.')[0]}")

    setup_step(visit, 1)
    page.locator("#setup-file").locator(FILES).set_input_files(hostile / "photos.zip")
    expect(page.locator("#setup-file")).to_contain_text("photos")
    page.locator("#setup-import").click()
    expect(page.locator("#setup-progress")).to_contain_text("as no set of images does")
    visit.shot("refused-bomb")

    assert not (hostile / "ran").exists()
    assert page.evaluate("window.hit") is None
    page.reload()
    expect(page.locator("#header .chip", has_text="Samples")).to_have_text(before)


def setup_step(visit: Visit, number: int) -> None:
    """A new page at a step of Setup."""
    visit.page.goto(visit.address + "/?tab=setup")
    step = visit.page.locator("#setup-steps .step").nth(number)
    step.get_by_role("button").click()
    expect(step).to_have_class(re.compile("is-current"))
