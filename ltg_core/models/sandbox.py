"""Weights out of programs (torch.export, TorchScript) by a process that can do nothing else.

Reading such a file runs code that its maker chose. So it is read in a child that first gives up everything: no network
and no other processes (namespaces), no files but the one it reads, Python's own and an empty folder to write to
(Landlock), no sockets, tracing or mounting (seccomp), bounded memory, time and file size. What comes back is a
safetensors file, read like any other. The program itself is never used: the network is built by the name of its
architecture.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import safetensors.torch
import torch

from ltg_core.errors import ModelError, UnsafeFile

MEMORY = 16 * 2**30
SECONDS = 180
FILE_BYTES = 8 * 2**30
WORKER = Path(__file__).with_name("sandbox_worker.py")


def program_kind(path: Path) -> str:
    """ "torch.export program", "TorchScript program", or "" for anything else; only the table of contents is read."""
    if not zipfile.is_zipfile(path):
        return ""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return ""
    if any(name.endswith("constants.pkl") for name in names):
        return "TorchScript program"
    exported = any("serialized_exported_program" in name or "archive_format" in name for name in names)
    return "torch.export program" if exported else ""


def refuse_program(path: Path, kind: str) -> UnsafeFile:
    """Why a program is not read, and what to do instead."""
    return UnsafeFile(
        f"{path.name} was refused unread: it is a {kind}, and reading it runs code that its maker chose. Save the "
        "weights alone (safetensors, or torch.save(model.state_dict(), ...)); or, on your own machine, "
        "'use --allow-programs' takes them out in a locked process"
    )


def extract_weights(path: Path, *, seconds: int = SECONDS) -> dict[str, torch.Tensor]:
    """The tensors of a program.

    Args:
        path: A torch.export or TorchScript file. Only where the operator of this machine has allowed it.
        seconds: After which the child is ended.

    Raises:
        UnsafeFile: This machine cannot lock a process, or the file tried something that is not allowed.
        ModelError: The file is damaged, too large or too slow, or holds no tensors.
    """
    kind = program_kind(path)
    if not kind:
        raise ModelError(f"{path.name} is neither a torch.export nor a TorchScript program")
    with tempfile.TemporaryDirectory(prefix="longtail-") as folder:
        out = Path(folder).resolve()
        report = _run(path.resolve(), kind, out, seconds)
        result = out / "weights.safetensors"
        if report == "locked out":
            raise UnsafeFile(
                f"{path.name} cannot be read safely on this machine: it needs Linux with Landlock, seccomp and user "
                "namespaces to lock a process up. Save the weights alone (safetensors) where the program was made"
            )
        if not result.is_file():
            raise ModelError(
                f"{path.name} ({kind}) gave no weights: {report or 'the locked process ended early'}"
            )
        try:
            return dict(safetensors.torch.load_file(result, device="cpu"))
        except (safetensors.SafetensorError, OSError, RuntimeError, ValueError) as error:
            raise ModelError(f"{path.name} ({kind}) gave no readable weights: {error}") from error


def _run(path: Path, kind: str, out: Path, seconds: int) -> str:
    """Run the child to its end; what it says of a failure, "" where it succeeded."""
    roots = {
        sys.prefix,
        sys.base_prefix,
        os.path.realpath(sys.prefix),
        str(Path(torch.__file__).parent.parent),
    }
    command = [
        sys.executable, "-I", str(WORKER), kind, str(path), str(out), str(MEMORY), str(FILE_BYTES), str(seconds),
        os.pathsep.join(sorted(roots)),
    ]  # fmt: skip
    environment = {"HOME": str(out), "TMPDIR": str(out), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    child = subprocess.Popen(
        command,
        cwd=out,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        close_fds=True,
    )
    try:
        status = child.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"it did not finish within {seconds} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    if status == 77:
        return "locked out"
    said = out / "error.txt"
    text = said.read_text(encoding="utf-8", errors="replace")[:300] if said.is_file() else ""
    return "" if status == 0 else text or f"it ended with status {status}"
