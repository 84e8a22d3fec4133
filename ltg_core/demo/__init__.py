"""The procedural road-sign world used by the bundled demo."""
