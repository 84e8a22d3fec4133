"""The part of the command line that says who may come to the page, and from where."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from app.front import Network, network
from app.users import Users, usual_file
from ltg_core.errors import InputError

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
_ROOT = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_HOST = re.compile(r"[a-z0-9_.-]{1,253}")
_ADVICE = """\
Others could reach this page{why}, so say who may come in:
  python app.py users add NAME   log-in with name and password (recommended); then start again
  --key                          whoever has the link that is printed
  --no-login                     everybody who can reach the address (a network that you trust, a proxy that asks)"""


def add_arguments(made: argparse.ArgumentParser) -> None:
    """The flags, in a group of their own."""
    group = made.add_argument_group(
        "who may come in",
        "By default the page listens on this machine only and asks for nothing. As soon as others could\n"
        "reach it, it starts only with users (see 'app.py users --help'), or with one of the flags below.\n"
        "Every user has a workspace of their own, unless it is --shared; SECURITY.md says what that means.",
    )
    add = group.add_argument
    add("--host", help="address to listen on (default: this machine only; on a Hugging Face Space all)")
    add(
        "--share",
        action="store_true",
        help="open a public link (needs the network); with --key if there are no users",
    )
    way = group.add_mutually_exclusive_group()
    for flag, value, text in (
        ("--login", "login", "users log in, also on this machine"),
        ("--key", "key", "whoever has the link that is printed may come in, under no name"),
        ("--no-login", "open", "everybody who can reach the address may come in"),
    ):
        way.add_argument(flag, dest="access", action="store_const", const=value, help=text)
    add("--users", type=Path, metavar="FILE", help=f"who may log in (default: {usual_file()})")
    add(
        "--shared",
        action="store_true",
        help="users work in one workspace: samples, slices and decisions are seen and changed by all of them",
    )
    add(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name under which the page is reached, beside addresses and this machine's own; may be repeated",
    )
    add(
        "--root-path",
        default="",
        metavar="PATH",
        help="path under which a proxy shows the page, such as /longtail",
    )
    add(
        "--trust-proxy",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="a proxy whose X-Forwarded-* headers are believed: an address or a network; may be repeated",
    )


def root_of(given: argparse.Namespace) -> str:
    """The path in front of the page, "" for none.

    Raises:
        InputError: It is no path.
    """
    root = str(given.root_path).rstrip("/")
    if root and not _ROOT.fullmatch(root):
        raise InputError(f"--root-path: {root!r} is no path; give one such as /longtail")
    return root


def proxies_of(given: argparse.Namespace) -> tuple[Network, ...]:
    """The proxies that are believed.

    Raises:
        InputError: One is no address.
    """
    try:
        return tuple(network(one) for one in given.trust_proxy)
    except ValueError as error:
        raise InputError(
            f"--trust-proxy: {error}; give an address such as 10.0.0.7 or 10.0.0.0/24"
        ) from error


def hosts_of(names: Sequence[str]) -> tuple[str, ...]:
    """Names of hosts, in small letters.

    Raises:
        InputError: One is no name.
    """
    found = tuple(name.lower().rstrip(".") for name in names)
    for name in found:
        if not _HOST.fullmatch(name):
            raise InputError(f"--allow-host: {name!r} is no name of a host; give it without scheme and port")
    return found


def access_of(given: argparse.Namespace, host: str, *, space: bool) -> str:
    """Who may come in: "login", "key", or "open".

    Raises:
        InputError: Others could reach the page, and nothing was said about them; or nobody could log in.
    """
    if given.access and given.access != "login":
        return str(given.access)
    users = given.users or usual_file()
    if given.access == "login" or given.users is not None:
        if not Users(users).names():
            raise InputError(f"nobody could log in ({users}); add a user first: python app.py users add NAME")
        return "login"
    why = _exposed(given, host)
    if space or not why:
        return "open"  # a Space is public by its nature, and says so
    if Users(users).names():
        return "login"
    if given.share:
        return "key"
    raise InputError(_ADVICE.format(why=why))


def _exposed(given: argparse.Namespace, host: str) -> str:
    """How others could reach the page; "" where they cannot."""
    if host not in LOCAL_HOSTS:
        return f" on {host}"
    if given.root_path or given.trust_proxy:
        return " through the proxy"
    return " through the public link" if given.share else ""
