"""What parent and worker say to each other: a line of JSON, and raw pixels after it where there are any.

Nothing is ever unpickled. Requests are ``{"job", "task", "arguments"}`` and ``{"cancel": job}``; answers carry the
job and one of ``progress``, ``done`` (the result) and ``failed`` (name and text of the error).
"""

from __future__ import annotations

import dataclasses
import json
from typing import IO, Any

from ltg_core.jobs import Progress

Message = dict[str, Any]
LARGEST = 256
"""Pixels of a preview's longer side at most: it is for the eye, and ten of them a second pass a pipe."""


def send(pipe: IO[bytes], message: Message, pixels: bytes = b"") -> None:
    """Write one message.

    Raises:
        OSError, ValueError: The other side has gone.
    """
    if pixels:
        message = message | {"bytes": len(pixels)}
    pipe.write(json.dumps(message, default=_plain).encode() + b"\n" + pixels)
    pipe.flush()


def receive(pipe: IO[bytes]) -> tuple[Message, bytes] | None:
    """Read one message; None at the end."""
    try:
        line = pipe.readline()
        if not line.endswith(b"\n"):
            return None
        message: Message = json.loads(line)
        size = int(message.get("bytes", 0))
        pixels = pipe.read(size) if size else b""
    except (OSError, ValueError):  # closed while this thread was reading, or cut off in the middle of a line
        return None
    return None if len(pixels) != size else (message, pixels)


def pack(progress: Progress) -> tuple[Message, bytes]:
    """A step of the work without its preview, and the preview's pixels."""
    fields = {f.name: getattr(progress, f.name) for f in dataclasses.fields(progress) if f.name != "preview"}
    pixels = _pixels(progress.preview)
    if pixels is None:
        return fields, b""
    return fields | {"shape": list(pixels.shape)}, pixels.tobytes()


def unpack(fields: Message, pixels: bytes, last: Any) -> Progress:
    """The step that ``pack`` took apart; without pixels of its own it shows the ``last`` ones again."""
    given = dict(fields)
    shape = given.pop("shape", None)
    preview = last
    if shape is not None:
        import numpy as np

        preview = np.frombuffer(pixels, dtype=np.uint8).reshape(shape)
    return Progress(**given, preview=preview)


def _pixels(preview: Any) -> Any:
    """uint8 (n, H, W, 3) no larger than needed; None where the preview is nothing of the kind."""
    if preview is None:
        return None
    import numpy as np

    images = np.asarray(preview)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or not images.size:
        return None
    step = -(-max(images.shape[1:3]) // LARGEST)
    return np.ascontiguousarray(images[:, ::step, ::step])


def _plain(value: Any) -> Any:
    """Numbers of numpy and torch as Python's, everything else that JSON does not know as text."""
    return value.item() if hasattr(value, "item") else str(value)
