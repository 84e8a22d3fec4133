"""Start the page: ``python app.py --help``."""

from __future__ import annotations

import sys

from app.settings import parse
from ltg_core import logs


def main() -> int:
    """Read the command line, then build and serve the page, or keep the list of users."""
    if sys.argv[1:2] == ["users"]:
        from app import users

        return users.main(sys.argv[2:])
    settings = parse(sys.argv[1:])
    logs.configure()
    from app.main import serve  # heavy: only after --help and wrong arguments are dealt with

    return serve(settings)


if __name__ == "__main__":
    sys.exit(main())
