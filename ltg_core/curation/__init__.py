"""What a person decides about samples: verdicts, tags, ratings, notes, with undo."""

from ltg_core.curation.verdicts import note, rate, redo, set_verdict, tag, undo

__all__ = ["note", "rate", "redo", "set_verdict", "tag", "undo"]
