"""Programs are refused; on request their weights are taken out by a process that can do nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest
import torch

from ltg_core.errors import ModelError, UnsafeFile
from ltg_core.models import sandbox, sandbox_worker
from ltg_core.models.architectures import build
from ltg_core.models.loaders import load_classifier

ASK_THE_KERNEL = """
import ctypes, runpy, sys
worker = runpy.run_path(sys.argv[1])
worker["separate"]()
sys.exit(ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1)) < worker["_LEAST_LANDLOCK"])
"""


def lockable() -> bool:
    """Whether this kernel gives a process namespaces and Landlock; some forbid the first to ordinary users."""
    if sys.platform != "linux":
        return False
    asked = subprocess.run(
        [sys.executable, "-c", ASK_THE_KERNEL, str(sandbox.WORKER)], capture_output=True, check=False
    )
    return asked.returncode == 0


locked = pytest.mark.skipif(not lockable(), reason="this kernel cannot lock a process up")


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self):
        return exec, (self.code,)


def small() -> torch.nn.Module:
    return build("resnet14_small", 3).eval()


def scripted(path: Path) -> torch.nn.Module:
    net = small()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the end of TorchScript
        torch.jit.save(torch.jit.trace(net, torch.rand(1, 3, 64, 64)), path)
    return net


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path]:
    path = tmp_path_factory.mktemp("exported") / "net.pt2"
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4 * 36, 3)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(net, (torch.rand(1, 3, 8, 8),)), path)
    return net, path


def with_code(source: Path, target: Path, code: str) -> Path:
    """The same program with a stranger's pickle as its sample inputs."""
    torch.save(Hostile(code), target.with_suffix(".evil"))
    payload = target.with_suffix(".evil").read_bytes()
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        replaced = 0
        for info in old.infolist():
            inputs = "sample_inputs" in info.filename
            replaced += inputs
            new.writestr(info.filename, payload if inputs else old.read(info))
    assert replaced
    return target


def test_programs_are_refused_without_the_operators_word(tmp_path: Path, exported) -> None:
    scripted(tmp_path / "a.pt")
    shutil.copy(exported[1], tmp_path / "b.pt2")
    for name, kind in (("a.pt", "TorchScript"), ("b.pt2", r"torch\.export")):
        with pytest.raises(UnsafeFile, match=f"{kind}.*--allow-programs"):
            load_classifier(tmp_path / name, arch="resnet14_small")


@locked
def test_weights_come_out_of_torchscript_and_the_network_is_built_by_name(tmp_path: Path) -> None:
    net = scripted(tmp_path / "a.pt")
    found = load_classifier(tmp_path / "a.pt", arch="resnet14_small", programs=True)
    x = torch.rand(2, 3, 64, 64)
    assert torch.allclose(found.logits(x), net(found.preprocess(x)), atol=1e-5)
    assert any("taken out" in note for note in found.notes)


@locked
def test_weights_come_out_of_a_torch_export_program(exported) -> None:
    net, path = exported
    state = sandbox.extract_weights(path)
    assert {name: tensor.tolist() for name, tensor in state.items()} == {
        n: t.tolist() for n, t in net.state_dict().items()
    }


@locked
def test_a_program_with_code_reaches_no_file_no_network_and_no_process(tmp_path: Path, exported) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
    code = f"""
import os, socket
said = []
def attempt(name, do):
    try:
        do()
        said.append(name)
    except BaseException:
        pass
attempt("write", lambda: open({str(victim)!r}, "w").write("gone"))
attempt("make", lambda: os.mkdir({str(tmp_path / "ran")!r}))
attempt("read", lambda: open({str(secret)!r}).read())
attempt("list", lambda: os.listdir("/"))
attempt("passwd", lambda: open("/etc/passwd").read())
attempt("environment", lambda: open("/proc/{os.getpid()}/environ").read())
attempt("kill", lambda: os.kill({sleeper.pid}, 9))
attempt("socket", lambda: socket.socket())
attempt("fork", lambda: os.execv("/bin/sh", ["sh", "-c", "touch {tmp_path / "ran"}"]) if os.fork() == 0 else os.wait())
raise SystemExit("reached: " + ",".join(sorted(set(said) - {{"fork"}})))
"""
    path = with_code(exported[1], tmp_path / "evil.pt2", code)
    try:
        with pytest.raises(ModelError) as caught:
            sandbox.extract_weights(path)
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()
    assert "reached:" in str(caught.value), "the code did not run at all, so that nothing was shown"
    assert str(caught.value).endswith("reached:"), "the code reached something"
    assert victim.read_text() == "precious" and not (tmp_path / "ran").exists()


@locked
def test_a_program_that_never_ends_is_ended(tmp_path: Path, exported) -> None:
    path = with_code(exported[1], tmp_path / "evil.pt2", "while True: pass")
    with pytest.raises(ModelError, match="within 8 s"):
        sandbox.extract_weights(path, seconds=8)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of processes are set by the Linux kernel")
def test_a_machine_that_cannot_lock_a_process_refuses_the_program(exported, monkeypatch) -> None:
    monkeypatch.setattr(sandbox, "WORKER", exported[1].with_name("worker.py"))
    text = Path(sandbox_worker.__file__).read_text(encoding="utf-8")
    sandbox.WORKER.write_text(
        text.replace("_LEAST_LANDLOCK = 3", "_LEAST_LANDLOCK = 10**6"), encoding="utf-8"
    )
    with pytest.raises(UnsafeFile, match="cannot be read safely on this machine"):
        sandbox.extract_weights(exported[1])


def test_weights_are_not_looked_for_in_other_files(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")
    with pytest.raises(ModelError, match="neither"):
        sandbox.extract_weights(tmp_path / "a.pt")
