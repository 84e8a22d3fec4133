"""Category extrapolation: what may stand beside a weak class, and how near it is. No workspace, no network."""
