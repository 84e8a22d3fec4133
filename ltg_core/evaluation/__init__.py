"""How good a classifier is on fixed real images, how sure that is, and what needs no training."""
