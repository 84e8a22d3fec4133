"""``make evidence``: every arm of every part, one small file a (part, arm, seed), so that a campaign can be cut into pieces.

What is found is kept in ``benchmarks/results/evidence``; what is heavy (images, weights) in ``build/evidence`` and made again
where it is missing. The list of planted cells and the oracles are read in `benchmarks.evidence.truth` alone.
"""
