"""Class names of ImageNet, from timm's own tables: no download."""

from __future__ import annotations

import functools

from ltg_core.models.naming import timm_library


@functools.lru_cache(maxsize=4)
def imagenet_names(count: int) -> tuple[str, ...] | None:
    """Names of the usual ImageNet subset with so many classes (1,000, 11,821, 21,841 …), None where there is none.

    Two classes with the same name get their WordNet number behind it.
    """
    known = _info(count)
    if known is None:
        return None
    short = [text.split(",")[0].strip() for _, text in known]
    twice = _repeated(short)
    return tuple(f"{n} ({wnid})" if n in twice else n for n, (wnid, _) in zip(short, known, strict=True))


@functools.lru_cache(maxsize=4)
def wordnet_aliases(count: int) -> dict[str, str]:
    """Folder names as ImageNet has them (n01440764) to ``imagenet_names``."""
    known, names = _info(count), imagenet_names(count)
    if known is None or names is None:
        return {}
    return {wnid: name for (wnid, _), name in zip(known, names, strict=True)}


def _repeated(names: list[str]) -> set[str]:
    seen: set[str] = set()
    return {name for name in names if name in seen or seen.add(name)}  # type: ignore[func-returns-value]


def _info(count: int) -> list[tuple[str, str]] | None:
    if count < 1000 or timm_library() is None:
        return None
    from timm.data import ImageNetInfo
    from timm.data.imagenet_info import _NUM_CLASSES_TO_SUBSET

    subset = _NUM_CLASSES_TO_SUBSET.get(count)
    if subset is None:
        return None
    info = ImageNetInfo(subset)
    return [(name, info.label_name_to_description(name)) for name in info.label_names()]
