"""Start the page: ``python app.py --help``."""

from __future__ import annotations

import sys

from app.settings import parse


def main() -> int:
    """Read the command line, then build and serve the page."""
    settings = parse(sys.argv[1:])
    from app.main import serve  # heavy: only after --help and wrong arguments are dealt with

    return serve(settings)


if __name__ == "__main__":
    sys.exit(main())
