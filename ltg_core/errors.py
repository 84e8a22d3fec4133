"""Every exception that this package raises on purpose.

```
LtgError
├── InputError (ValueError)      what was given cannot be used: an image, a folder, a label, a setting
│   ├── DatasetError             a data set cannot be read or does not fit the classifier
│   └── ParamError               a setting is outside its declared bounds
├── ModelError                   weights and architecture do not fit, or a model cannot be used
│   ├── ArchitectureMismatch     the tensors differ from those of the named architecture
│   └── UnsafeFile               the file may run code when it is read; it was refused unread
├── UnsupportedError             this combination of model, signal or method has no meaning; the message offers another
├── EndpointError                a language model's endpoint cannot be reached, or its answer cannot be used
│   └── AnswerError              it was asked properly and answered in no usable form
├── WorkspaceError               the workspace folder cannot be read or written
├── WorkerLost                  the process that did the work ended before it was done
├── MissingExtra (ImportError)   an optional package is not installed; the message names the command
├── Cancelled                    the user stopped the work; what was finished is kept
└── ShardMade                    one shard of the work is made, others are left: no failure, and not the end
```
Messages say what was given, what was expected and what to do.
"""

from __future__ import annotations

from typing import Any


class LtgError(Exception):
    """Base of all errors that a user can act on."""


class InputError(LtgError, ValueError):
    """What was given cannot be used."""


class DatasetError(InputError):
    """A data set cannot be read or does not fit the classifier."""


class ParamError(InputError):
    """A setting is outside its declared bounds."""


class ModelError(LtgError):
    """A model cannot be loaded or used."""


class ArchitectureMismatch(ModelError):
    """The tensors of a file differ from those of the named architecture."""


class UnsafeFile(ModelError):
    """Reading the file could run code, so it was refused."""


class UnsupportedError(LtgError):
    """A combination of model, signal or method that has no meaning."""


class EndpointError(LtgError):
    """A language model's endpoint cannot be reached, or its answer cannot be used."""


class AnswerError(EndpointError):
    """A language model answered, but in no usable form."""


class WorkspaceError(LtgError):
    """The workspace folder cannot be read or written."""


class WorkerLost(LtgError):
    """The process that did the work ended before it was done."""


class MissingExtra(LtgError, ImportError):
    """An optional package is not installed."""


class Cancelled(LtgError):
    """The user stopped the work."""


class ShardMade(LtgError):
    """One shard of the work is made and waits for the others.

    Attributes:
        record: The same in plain values: ``shard``, ``made`` and ``there`` (units), ``units`` (of all shards) and
            ``left`` (units by shard).
    """

    def __init__(self, message: str, record: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.record = record or {}
