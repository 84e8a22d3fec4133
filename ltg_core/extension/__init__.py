"""Category extrapolation: what may stand beside a weak class, and how near it is. Formulas; no workspace, no network."""
