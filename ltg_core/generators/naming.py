"""Classes of a class-conditional generator, asked for by name or number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from ltg_core.errors import InputError
from ltg_core.generators.folder import Folder


class ClassNames:
    """Names of a generator's classes: ``id2label`` of its index, or ``classes`` of its card; several a class by commas.

    Args:
        folder: An open directory.
        count: Number of its classes.
    """

    def __init__(self, folder: Folder, count: int) -> None:
        self.count, self._name = count, folder.name
        found = folder.index.get("id2label") or folder.card().get("classes") or {}
        pairs = found.items() if isinstance(found, Mapping) else enumerate(found)
        names = {int(key): str(value) for key, value in pairs if int(key) < count}
        self.names = tuple(names[i] for i in range(count)) if len(names) == count else ()
        self._index: dict[str, int] = {}
        for number, name in names.items():
            for word in (name, *name.split(",")):
                self._index.setdefault(_folded(word), number)

    def numbers(self, prompts: Sequence[str]) -> torch.Tensor:
        """Class numbers of prompts: a name (case, hyphens and underscores do not matter) or a number.

        Raises:
            InputError: An unknown one.
        """
        return torch.tensor([self._number(prompt) for prompt in prompts])

    def _number(self, prompt: str) -> int:
        text = prompt.strip()
        if _folded(text) in self._index:
            return self._index[_folded(text)]
        if text.isdecimal() and int(text) < self.count:
            return int(text)
        known = ", ".join(name.split(",")[0] for name in self.names[:8])
        hint = (
            f"it has {self.count} classes: {known} …"
            if known
            else f"it has {self.count} classes without names: give a number from 0 to {self.count - 1}, or list "
            'their names as "classes" in its card.json'
        )
        raise InputError(f"the generator {self._name!r} has no class {prompt!r}; {hint}")


def _folded(text: str) -> str:
    return " ".join(text.casefold().replace("_", " ").replace("-", " ").split())
