"""What the command line says about the page. No heavy import, so that ``--help`` is quick."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import socket
from collections.abc import Sequence
from pathlib import Path

from app import access, quotas
from app.access import LOCAL_HOSTS
from app.front import Network
from app.quotas import Limits
from ltg_core import devices
from ltg_core.cli.flags import add_engine, engine_of
from ltg_core.errors import InputError, MissingExtra
from ltg_core.workers.engine import EngineSettings

USUAL_PORT = 7860
SPACE_PORT = 7860
"""Where a Hugging Face Space looks for its app."""
_UPLOAD_MB, _SPACE_UPLOAD_MB = 2048, 256
_EPILOG = """\
Without arguments the bundled demo is opened: a road-sign classifier with blind spots, its data and a generator.

  python app.py                                       the demo
  python app.py photos/ --model net.safetensors       your images and your classifier
  python app.py photos.zip --model net.pth --arch timm:resnet18 --labels labels.txt
  python app.py users add NAME                        who may log in when others can reach the page
  python app.py --host 0.0.0.0                        open it to them
"""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How this process serves.

    Attributes:
        data: Folder, zip, Parquet or CSV file to import, or None.
        model: Weight file of the classifier, or None.
        arch: Its architecture, or None where a card lies beside the file.
        labels: Text file with one class a line, or JSON list; or None.
        generator: Folder of a diffusion model, or None.
        workspace: Folder that holds everything.
        host: Address to listen on.
        port: Wanted port; 0 for any.
        browser: Whether to open one.
        share: Whether to open a public link (needs the network).
        upload_mb: Largest upload.
        demo: Folder of the bundled demo, or None for the usual one.
        space: Whether it is a Hugging Face Space: anybody may come, and the page is shown within another one.
        access: Who may come in: "login", "key" (of the printed link), or "open" (whoever reaches the page).
        users: File of those who may log in, None for the usual one.
        shared: Whether users work in one workspace instead of one each.
        hosts: Names under which the page is reached, beside addresses and the machine's own.
        root: Path under which a proxy shows the page, or "".
        trusted: Proxies whose word about the visitor is taken.
        limits: How much visitors may take.
        engine: Who does the units of long jobs; the page cannot choose it.
        grace: Seconds that running jobs have at the end to come to a point from which they can be resumed.
        device: Where networks run: "auto", "cpu", "cuda" or "cuda:N"; the page cannot choose it either.
    """

    data: Path | None = None
    model: Path | None = None
    arch: str | None = None
    labels: Path | None = None
    generator: Path | None = None
    workspace: Path = Path("workspace/demo")
    host: str = "127.0.0.1"
    port: int = USUAL_PORT
    browser: bool = True
    share: bool = False
    upload_mb: int = 2048
    demo: Path | None = None
    space: bool = False
    access: str = "open"
    users: Path | None = None
    shared: bool = False
    hosts: tuple[str, ...] = ()
    root: str = ""
    trusted: tuple[Network, ...] = ()
    limits: Limits = dataclasses.field(default_factory=Limits)
    engine: EngineSettings = dataclasses.field(default_factory=EngineSettings)
    device: str = devices.AUTO
    grace: float = 20.0

    @property
    def wants_demo(self) -> bool:
        """Whether nothing of the user's own was named."""
        return self.data is None and self.model is None and self.generator is None

    @property
    def apart(self) -> bool:
        """Whether every user has a workspace of their own."""
        return self.access == "login" and not self.shared

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the page, and whoever does sits at it."""
        alone = self.host in LOCAL_HOSTS and not (self.share or self.space or self.root or self.trusted)
        return alone and self.access == "open"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="app.py",
        description="Find, generate, explain and repair the blind spots of an image classifier.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add(
        "data",
        nargs="?",
        type=Path,
        metavar="DATA",
        help="folder of class folders, zip of one, Parquet, CSV or JSONL",
    )
    add("--model", type=Path, metavar="FILE", help="classifier: safetensors or weights-only state dict")
    add("--arch", metavar="NAME", help="its architecture, e.g. timm:resnet18 (not needed beside a JSON card)")
    add(
        "--labels",
        type=Path,
        metavar="FILE",
        help="class names in the order of the outputs: one a line, or JSON",
    )
    add(
        "--generator",
        type=Path,
        metavar="DIR",
        help="folder of a text-to-image diffusion model (diffusers layout)",
    )
    add(
        "--workspace",
        type=Path,
        metavar="DIR",
        help="where results are kept (default: workspace/<name of DATA>)",
    )
    add(
        "--port",
        type=int,
        help=f"port (default: {USUAL_PORT}, or a free one if that is taken)",
    )
    add("--no-browser", action="store_true", help="do not open a browser")
    add("--max-upload-mb", type=int, metavar="MB", help=f"largest upload (default: {_UPLOAD_MB})")
    add(
        "--grace",
        type=float,
        default=Settings.grace,
        metavar="SECONDS",
        help="at Ctrl+C or SIGTERM running jobs have so long to come to a point from which they can be resumed; a "
        f"second signal ends at once (default: {Settings.grace:g})",
    )
    add(
        "--device",
        default=devices.AUTO,
        metavar="NAME",
        help="where networks run: cpu, cuda, cuda:1 …; auto takes a GPU that works, else the CPU (default: auto)",
    )
    add_engine(made)
    access.add_arguments(made)
    quotas.add_arguments(made)
    return made


def parse(arguments: Sequence[str]) -> Settings:
    """Settings from the command line; wrong ones end the program with a message."""
    made = parser()
    given = made.parse_args(arguments)
    for name in ("data", "model", "labels", "generator"):
        path = getattr(given, name)
        if path is not None and not path.exists():
            made.error(f"{name}: '{path}' does not exist")
    if given.port is not None and not 0 <= given.port < 65536:
        made.error(f"--port: {given.port} is no port; give 0 to 65535")
    if given.max_upload_mb is not None and given.max_upload_mb < 1:
        made.error("--max-upload-mb: give at least 1")
    if not 0 <= given.grace < float("inf"):
        made.error(f"--grace: {given.grace:g} is no number of seconds; give 0 or more")
    space = bool(os.environ.get("SPACE_ID"))  # set by the platform and by nobody else
    usual = ("0.0.0.0", SPACE_PORT, _SPACE_UPLOAD_MB) if space else ("127.0.0.1", USUAL_PORT, _UPLOAD_MB)
    host, port, upload_mb = (
        default if value is None else value
        for value, default in zip((given.host, given.port, given.max_upload_mb), usual, strict=True)
    )
    try:
        chosen = {
            "access": access.access_of(given, host, space=space),
            "hosts": access.hosts_of(given.allow_host),
            "root": access.root_of(given),
            "trusted": access.proxies_of(given),
            "limits": quotas.limits_of(given),
            "engine": engine_of(given),
            "device": devices.checked(given.device),
        }
        devices.needed(given.device)
        chosen["engine"].open()  # says what is missing before anybody waits for a page
    except (InputError, MissingExtra) as error:
        made.error(str(error))
    demo = os.environ.get("LTG_DEMO_DIR")
    return Settings(
        data=given.data,
        model=given.model,
        arch=given.arch,
        labels=given.labels,
        generator=given.generator,
        workspace=given.workspace or Path("workspace") / _name(given),
        host=host,
        port=port,
        browser=not given.no_browser and not space,
        share=given.share,
        upload_mb=upload_mb,
        demo=Path(demo) if demo else None,
        space=space,
        users=given.users,
        shared=given.shared,
        grace=given.grace,
        **chosen,
    )


def read_labels(path: Path) -> list[str]:
    """Class names from a text file; see ``labels_from_text``.

    Raises:
        InputError: The file is no text or holds no names.
    """
    try:
        return labels_from_text(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the labels in '{path.name}' cannot be read as text: {error}") from error


def labels_from_text(text: str) -> list[str]:
    """Class names: one a line, a JSON list, or ``{"0": name, ...}``.

    Raises:
        InputError: Broken JSON, or no names.
    """
    found: list[object] = [line.strip() for line in text.splitlines() if line.strip()]
    if text.strip()[:1] in ("[", "{"):
        try:
            value = json.loads(text)
        except ValueError as error:
            raise InputError(f"the class names look like JSON and are not: {error}") from error
        if isinstance(value, dict):
            value = [
                value[key] for key in sorted(value, key=lambda k: (len(k), k) if k.isdigit() else (99, k))
            ]
        found = list(value)
    elif len(found) == 1 and "," in str(found[0]):
        found = [one.strip() for one in str(found[0]).split(",") if one.strip()]
    if not found:
        raise InputError(
            "there are no class names; give one a line, in the order of the classifier's outputs"
        )
    return [str(one) for one in found]


def free_port(host: str, wanted: int) -> int:
    """The wanted port, or a free one if it is taken."""
    for port in (wanted, 0):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                if port == 0:
                    raise
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port")


def _name(given: argparse.Namespace) -> str:
    named = given.data or given.model or given.generator
    if named is None:
        return "demo"
    return re.sub(r"[^A-Za-z0-9._-]+", "-", named.resolve().stem).strip("-.") or "mine"
