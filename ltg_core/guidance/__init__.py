"""Guided sampling: search among candidates, then climb the signal; each part works without the other."""
