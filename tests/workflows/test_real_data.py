"""The trainings of the command line on real images; skipped where the data sets are absent."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
CIFAR = ROOT.parent / "shared" / "data" / "cifar10" / "train.parquet"
SIZES = {
    "autoencoder": {"steps": 4, "batch-size": 4, "warmup": 1, "width": 8},
    "tiny": {"steps": 3, "batch-size": 4, "warmup": 1},
    "text": {"steps": 3, "batch-size": 4, "warmup": 1, "width": 32, "layers": 1, "length": 12},
    "denoiser": {"steps": 16, "batch-size": 4, "warmup": 1, "width": 16, "checkpoint-every": 2},
}


@pytest.mark.slow
@pytest.mark.skipif(not CIFAR.exists(), reason="CIFAR-10 is not in ../shared/data")
def test_a_generator_of_cifar10_is_trained_killed_and_trained_on_to_the_same_weights(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ltg_core", "fit-generator", str(CIFAR), "--size", "32", "--limit", "40"]
    for part, values in SIZES.items():
        command += [word for name, value in values.items() for word in (f"--{part}-{name}", str(value))]

    def start(out: Path) -> subprocess.Popen[str]:
        whole = [*command, "--out", str(out), "--json", "--quiet"]
        return subprocess.Popen(whole, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    killed = start(tmp_path / "killed")
    checkpoint = tmp_path / "killed.work" / "denoiser.ckpt"
    deadline = time.monotonic() + 240
    while killed.poll() is None and not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    killed.kill()
    _, errors = killed.communicate()
    assert killed.returncode == -signal.SIGKILL, f"it ended before it could be killed: {errors}"
    assert checkpoint.exists()
    assert not (tmp_path / "killed" / "model_index.json").exists()
    for name in ("killed", "whole"):
        process = start(tmp_path / name)
        out, errors = process.communicate(timeout=280)
        assert process.returncode == 0, errors
        assert json.loads(out)
    for part in ("unet", "vae"):
        found, wanted = (
            load_file(tmp_path / name / part / "diffusion_pytorch_model.safetensors")
            for name in ("killed", "whole")
        )
        assert all((found[key] == wanted[key]).all() for key in wanted), part
