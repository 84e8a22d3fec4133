"""One file a tab; each has TITLE, ID, build and wire."""
