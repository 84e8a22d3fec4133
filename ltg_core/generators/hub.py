"""Models by name from a model hub: looked at first, then fetched at one pinned commit, safetensors and settings only.

Nothing here runs unless it was asked for, and no code of a repository is ever fetched or executed.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from ltg_core.errors import InputError, MissingExtra, ModelError
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SETTINGS = (".json", ".txt", ".model")
_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Offer:
    """What a download would fetch.

    Attributes:
        name: ``owner/name``.
        commit: The commit, 40 hex digits.
        files: Paths and bytes.
        licence: As the repository names it; "not stated" where it names none.
        gated: Whether its owner wants an account that has agreed to terms.
    """

    name: str
    commit: str
    files: tuple[tuple[str, int], ...]
    licence: str
    gated: bool

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size in self.files)

    def text(self) -> str:
        """For people, before they say yes."""
        terms = "; its owner asks for an account that has agreed to the terms" if self.gated else ""
        return (
            f"{self.name} at {self.commit}: {len(self.files)} files, {self.size / _GIB:.2f} GiB, licence "
            f"{self.licence}{terms}."
        )


def is_name(text: str) -> bool:
    """Whether this can only be the name of a model on a hub: ``owner/name`` that is no folder here."""
    return bool(_NAME.fullmatch(text)) and not Path(text).expanduser().exists()


def look(name: str, *, revision: str | None = None, endpoint: str | None = None) -> Offer:
    """What there is under a name: the commit that a branch points at now, the files that would be fetched, the licence.

    Args:
        name: ``owner/name``.
        revision: Branch, tag or commit; the default branch if not given.
        endpoint: Another hub.

    Raises:
        InputError: No such model, no access, or no network.
        ModelError: It is not in diffusers' layout, or has no safetensors.
    """
    _check_name(name)
    with _in_words(name):
        api = _hub().HfApi(endpoint=endpoint)
        info = api.model_info(name, revision=revision, files_metadata=True)
    sizes = {entry.rfilename: int(entry.size or 0) for entry in info.siblings or ()}
    if "model_index.json" not in sizes:
        raise ModelError(f"{name} has no model_index.json; give a model in diffusers' layout")
    card = info.card_data.to_dict() if info.card_data is not None else {}
    return Offer(
        name=name,
        commit=str(info.sha),
        files=tuple((path, sizes[path]) for path in _wanted(name, list(sizes))),
        licence=str(card.get("license_name") or card.get("license") or "not stated"),
        gated=bool(info.gated),
    )


def fetch(
    offer: Offer,
    *,
    cache: str | Path | None = None,
    endpoint: str | None = None,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> Path:
    """Fetch exactly what was offered; a second call goes on where the first was stopped.

    Args:
        offer: From `look`.
        cache: Another place than the hub library's own cache.
        endpoint: Another hub.
        on_progress: Told in MiB.
        cancel: Checked at every block.

    Returns:
        The folder.

    Raises:
        InputError: No access or no network.
        Cancelled: On request; what was fetched is kept.
    """
    token, folder, before = cancel or CancelToken(), Path(), 0

    def report(done: int) -> None:
        token.check()
        on_progress(Progress((before + done) >> 20, max(1, offer.size >> 20), f"{offer.name}: {current}"))

    current = ""
    for current, size in offer.files:
        token.check()
        with _in_words(offer.name):
            got = _hub().hf_hub_download(
                offer.name,
                current,
                revision=offer.commit,
                cache_dir=None if cache is None else str(cache),
                endpoint=endpoint,
                tqdm_class=_reporter(report),
            )
        before += size
        report(0)
        folder = Path(got).parents[len(PurePosixPath(current).parents) - 1]
    return folder


def cached(name: str, *, revision: str | None = None, cache: str | Path | None = None) -> Path:
    """The folder of a model that was fetched before; no connection is made.

    Raises:
        InputError: It was not; the message says how to fetch it.
    """
    _check_name(name)
    hub = _hub()
    found = hub.try_to_load_from_cache(name, "model_index.json", cache_dir=cache, revision=revision)
    if not isinstance(found, str) and not _COMMIT.fullmatch(revision or ""):
        found = _newest(name, cache)
    if not isinstance(found, str):
        raise InputError(
            f"the model {name!r} is not on this machine. Give a folder in diffusers' layout, or, where there is a "
            "network, see size and licence with 'use --generator NAME --download' and fetch it from there"
        )
    folder = Path(found).parent
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    missing = [
        part
        for part, value in index.items()
        if isinstance(value, list) and value[0] in ("diffusers", "transformers") and value[1]
        if part not in _UNUSED and not (folder / part).is_dir()
    ]
    if missing:
        raise InputError(f"the download of {name!r} is not complete ({', '.join(missing)}); fetch it again")
    return folder


_UNUSED = ("safety_checker", "feature_extractor", "image_encoder")


def _newest(name: str, cache: str | Path | None) -> str | None:
    """The index of the snapshot that was fetched last by its commit: no branch points at such a one."""
    root = Path(cache or _hub().constants.HF_HUB_CACHE) / ("models--" + name.replace("/", "--")) / "snapshots"
    found = sorted(root.glob("*/model_index.json"), key=lambda path: path.stat().st_mtime_ns)
    return str(found[-1]) if found else None


def _wanted(name: str, paths: list[str]) -> list[str]:
    """Settings and weights of the parts; weights of a variant only where there are no others."""
    parts: dict[str, list[str]] = {}
    for path in sorted(paths):
        folder, _, file = path.rpartition("/")
        if "/" in folder or folder in _UNUSED or not folder:
            continue
        parts.setdefault(folder, []).append(file)
    wanted = ["model_index.json"]
    for folder, files in parts.items():
        weights = [file for file in files if file.endswith(".safetensors")]
        plain = [file for file in weights if len(file.split(".")) == 2]
        half = [file for file in weights if ".fp16" in file]
        chosen = plain or half or weights
        index = ".safetensors.index"
        settings = [
            file
            for file in files
            if file.endswith(_SETTINGS)
            and (index not in file or plain == [] or file.split(".")[1] == "safetensors")
        ]
        if any(file.endswith((".bin", ".pt", ".ckpt")) for file in files) and not weights:
            raise ModelError(
                f"the part {folder!r} of {name} has no safetensors; pickled weights are not fetched"
            )
        wanted += [f"{folder}/{file}" for file in (*settings, *chosen)]
    return wanted


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InputError(f"{name!r} is no name of a model; expected owner/name")


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtra("models by name need huggingface_hub: pip install huggingface_hub") from error
    return huggingface_hub


@contextmanager
def _in_words(name: str) -> Iterator[None]:
    """Errors of the hub's library as ours."""
    errors = _hub().errors

    try:
        yield
    except (errors.GatedRepoError, errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        _refuse(f"{name!r} is not there, or your account has no access to it", error)
    except errors.OfflineModeIsEnabled as error:
        _refuse(f"{name!r} was not fetched: connections are switched off (HF_HUB_OFFLINE)", error)
    except errors.HfHubHTTPError as error:
        _refuse(f"{name!r} was not fetched: the model hub answered {str(error).splitlines()[0]}", error)
    except (errors.LocalEntryNotFoundError, errors.HTTPError, ConnectionError, TimeoutError) as error:
        _refuse(
            f"{name!r} was not fetched: there is no connection to the model hub. Give a folder on this machine, or "
            "copy the model here by other means",
            error,
        )


def _refuse(text: str, error: Exception) -> NoReturn:
    raise InputError(text) from error


def _reporter(report: Callable[[int], None]) -> Any:
    """A silent progress bar for the hub's library that tells how many bytes are there."""
    from tqdm import tqdm

    class Silent(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)
            super().__init__(*args, **{**options, "disable": True})
            self.there = int(options.get("initial") or 0)

        def update(self, n: float | None = 1) -> None:
            self.there += int(n or 0)
            report(self.there)

    return Silent
