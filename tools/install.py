"""Install pinned requirements into this environment, with the build of torch that fits the machine.

``TORCH=auto`` (default) takes a CUDA build where ``nvidia-smi`` finds a GPU and the CPU build elsewhere; ``TORCH=cpu``
and ``TORCH=cuda`` force one. On Linux the package index serves the CUDA build (several GB of libraries) under the plain
name, so for the CPU build this script first looks at what pip would take and, if that is a CUDA build, asks uv, which
knows where the CPU builds are (``uv pip install --torch-backend cpu``). If that cannot be reached the default build is
installed, which also runs on a CPU; the script says so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


def main() -> int:
    """Install what the file named on the command line pins."""
    requirements = Path(sys.argv[1])
    pinned = next(
        (line.strip() for line in requirements.read_text().splitlines() if line.startswith("torch==")), ""
    )
    if (
        pinned
        and not installed(pinned)
        and wanted() == "cpu"
        and sys.platform == "linux"
        and pip_takes_cuda(pinned)
    ):
        install_cpu_torch(pinned)
    print(f"installing {requirements} (the first time takes some minutes)", flush=True)
    return subprocess.call([*PIP, "install", "--quiet", "-r", str(requirements)])


def wanted() -> str:
    """The build asked for, or the one that fits: "cpu" or "cuda"."""
    choice = os.environ.get("TORCH", "auto")
    if choice in ("cpu", "cuda"):
        return choice
    if choice != "auto":
        sys.exit(f"TORCH is {choice!r}; give auto, cpu or cuda")
    found = (
        shutil.which("nvidia-smi")
        and subprocess.run(["nvidia-smi", "-L"], capture_output=True).returncode == 0
    )
    return "cuda" if found else "cpu"


def installed(pinned: str) -> bool:
    """Whether this version is there already, whatever its build."""
    try:
        return metadata.version("torch").split("+")[0] == pinned.split("==")[1]
    except metadata.PackageNotFoundError:
        return False


def pip_takes_cuda(pinned: str) -> bool:
    """Whether plain pip would install a build that needs CUDA libraries; True when that cannot be found out."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [
            *PIP,
            "install",
            "--quiet",
            "--dry-run",
            "--no-deps",
            "--ignore-installed",
            "--report",
            str(report),
            pinned,
        ]
        if subprocess.call(command) or not report.exists():
            return True
        found = json.loads(report.read_text())["install"][0]["metadata"]
    needs = " ".join(found.get("requires_dist", []))
    return "+cpu" not in found["version"] and ("nvidia" in needs or "cuda" in needs)


def install_cpu_torch(pinned: str) -> None:
    """Let uv find the CPU build."""
    print("no GPU here: asking for the CPU build of torch", flush=True)
    if subprocess.call([*PIP, "install", "--quiet", "uv"]) == 0:
        uv = Path(sys.executable).with_name("uv")
        command = [
            str(uv),
            "pip",
            "install",
            "--quiet",
            "--python",
            sys.executable,
            "--torch-backend",
            "cpu",
            pinned,
        ]
        if subprocess.call(command) == 0:
            return
    print(
        "the CPU build cannot be reached; installing the default build, which is larger but runs here too",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
