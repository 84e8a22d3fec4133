"""The child of ``sandbox``: locks itself up for good, then reads one program. A script; it imports nothing of ours."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
from pathlib import Path
from typing import Any

LOCKED_OUT = 77
# socket connect ptrace mount umount2 bpf io_uring_setup keyctl add_key request_key process_vm_readv process_vm_writev
# unshare setns userfaultfd perf_event_open open_by_handle_at pidfd_getfd chroot pivot_root
_X86 = (41, 42, 101, 165, 166, 321, 425, 250, 248, 249, 310, 311, 272, 308, 323, 298, 304, 438, 161, 155)
_ARM = (198, 203, 117, 40, 39, 280, 425, 219, 217, 218, 270, 271, 97, 268, 282, 241, 265, 438, 51, 41)
_CALLS = {"x86_64": (0xC000003E, _X86), "aarch64": (0xC00000B7, _ARM)}
_READ = 1 << 0 | 1 << 2 | 1 << 3  # execute, read files, list folders
_WRITE = (
    _READ | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 14
)  # write, remove, make folders and files, truncate
_HANDLED = 0b111111111111111
_LEAST_LANDLOCK = 3

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> int:
    """Arguments: kind, program, output folder, bytes of memory, bytes of a file, seconds, folders of Python."""
    kind, program, out, memory, file_bytes, seconds, roots = sys.argv[1:]
    try:
        separate()
    except OSError:
        return LOCKED_OUT
    child = os.fork()  # the new process namespace begins with it
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF
    _libc.prctl(1, signal.SIGKILL)  # it ends with its parent
    import safetensors.torch
    import torch

    torch.set_num_threads(1)
    try:
        limit(int(memory), int(file_bytes), int(seconds))
        lock_files([*roots.split(os.pathsep), "/usr", "/lib", "/lib64"], Path(program), Path(out))
        lock_calls()
    except OSError:
        return LOCKED_OUT
    try:
        state = read(torch, kind, program)
        safetensors.torch.save_file(state, os.path.join(out, "weights.safetensors"))
    except BaseException as error:  # noqa: BLE001  # whatever a stranger's code raises
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
        Path(out, "error.txt").write_text(text, encoding="utf-8")
        return 1
    return 0


def read(torch: Any, kind: str, program: str) -> dict[str, Any]:
    """Names and tensors."""
    import warnings

    warnings.simplefilter("ignore")
    if kind.startswith("torch.export"):
        state = torch.export.load(program).state_dict
    else:
        state = torch.jit.load(program, map_location="cpu").state_dict()
    return {str(name): tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}


def separate() -> None:
    """Namespaces of its own for users, processes, network, IPC and host name: there is nobody else to reach."""
    _checked(_libc.unshare(0x10000000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000))


def limit(memory: int, file_bytes: int, seconds: int) -> None:
    """Bounds that the kernel enforces."""
    for kind, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_NOFILE, 128),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))


def lock_files(roots: list[str], program: Path, out: Path) -> None:
    """Landlock: read Python's folders and the program, write to the output folder, nothing else, for good."""
    version = _libc.syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < _LEAST_LANDLOCK:
        raise OSError("no Landlock")
    handled = _HANDLED | (1 << 15 if version >= 5 else 0)
    given = struct.pack("<QQQ", handled, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    rules = _checked(_libc.syscall(444, given, ctypes.c_size_t(size), ctypes.c_uint32(0)))
    for path, allowed in (*((root, _READ) for root in roots), (str(out), _WRITE), (str(program), 0b100)):
        if not os.path.exists(path):
            continue
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = struct.pack("<Qi", allowed, handle)
        _checked(_libc.syscall(445, rules, 1, rule, ctypes.c_uint32(0)))
        os.close(handle)
    _checked(_libc.prctl(38, 1, 0, 0, 0))  # no new privileges
    _checked(_libc.syscall(446, rules, ctypes.c_uint32(0)))
    os.close(rules)


def lock_calls() -> None:
    """seccomp: no sockets, no tracing, no mounting, for good."""
    machine, calls = _CALLS.get(platform.machine(), (0, ()))
    if not calls:
        raise OSError("unknown processor")
    deny, allow, kill = 0x00050001, 0x7FFF0000, 0x80000000
    count = len(calls)
    steps = [(0x20, 0, 0, 4), (0x15, 1, 0, machine), (0x06, 0, 0, kill), (0x20, 0, 0, 0)]
    steps.append((0x35, count + 1, 0, 0x40000000))  # x32's other numbers for the same calls
    steps += [(0x15, count - place, 0, call) for place, call in enumerate(calls)]
    steps += [(0x06, 0, 0, allow), (0x06, 0, 0, deny)]
    code = b"".join(struct.pack("<HBBI", *step) for step in steps)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("<HxxxxxxQ", len(steps), ctypes.addressof(buffer))
    _checked(_libc.prctl(22, 2, program, 0, 0))


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), "the process cannot be locked")
    return int(result)


if __name__ == "__main__":
    sys.exit(main())
