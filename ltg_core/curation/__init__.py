"""What a person decides about samples: verdicts, tags, ratings, notes, pins, sets, second reviews; all with undo."""

from ltg_core.curation import review, sets
from ltg_core.curation.journal import Action, clock, history, redo, undo
from ltg_core.curation.pins import Pin, annotate, move, pin, pinned, unpin
from ltg_core.curation.verdicts import Done, decide, note, rate, set_verdict, tag

__all__ = [
    "Action", "Done", "Pin", "annotate", "clock", "decide", "history", "move", "note", "pin", "pinned", "rate", "redo",
    "review", "set_verdict", "sets", "tag", "undo", "unpin",
]  # fmt: skip
