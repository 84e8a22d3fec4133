"""Paths are cut down to their last part before a browser gets them; everything else stays as it is."""

from __future__ import annotations

import pytest

from app.discreet import discreet


@pytest.mark.parametrize(
    ("said", "told"),
    (
        (
            "the disk that holds the workspace '/srv/data/ws 1' is full",
            "the disk that holds the workspace 'ws 1' is full",
        ),
        ("'/home/ada/photos/' does not exist", "'…' does not exist"),
        ('it is in "/a/b c/d.pt"; run it', 'it is in "d.pt"; run it'),
        (r"the file 'C:\\Users\\ada\\net.pth' is damaged", "the file 'net.pth' is damaged"),
        ("cannot open /var/lib/longtail/ws/tmp/1-a: no space", "cannot open 1-a: no space"),
        ("[Errno 28] No space left on device: '/x/y'", "[Errno 28] No space left on device: 'y'"),
        ("/tmp/x/y.npy, /tmp/x/z.npy", "y.npy, z.npy"),
        ("accept/reject 3/12 or 3 / 12, and/or", "accept/reject 3/12 or 3 / 12, and/or"),
        ("see https://example.org/a/b/c", "see https://example.org/a/b/c"),
        ("give hf:owner/name or timm:resnet18", "give hf:owner/name or timm:resnet18"),
        ("the class 'left/right' is unknown; 'a' and 'b'", "the class 'left/right' is unknown; 'a' and 'b'"),
        (
            "models/ab12/classifier.safetensors has vanished",
            "models/ab12/classifier.safetensors has vanished",
        ),
        ("nothing of the kind", "nothing of the kind"),
    ),
)
def test_only_paths_are_shortened(said: str, told: str) -> None:
    assert discreet(said) == told
