"""Who may log in: a file of names and hashed passwords, and the command that keeps it (``python app.py users``)."""

from __future__ import annotations

import argparse
import functools
import getpass
import hashlib
import json
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ltg_core.errors import InputError

if TYPE_CHECKING:
    from argon2 import PasswordHasher

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
SHORTEST, LONGEST = 10, 200
"""Characters of a password."""
_VERSION = 1


def usual_file() -> Path:
    """Where the users are when nobody says otherwise: ``longtail/users.json`` in the user's configuration folder."""
    told = os.environ.get("LONGTAIL_USERS")
    folder = os.environ.get("XDG_CONFIG_HOME")
    return (
        Path(told) if told else (Path(folder) if folder else Path.home() / ".config") / "longtail/users.json"
    )


def folder_of(workspace: Path, user: str) -> Path:
    """Where a user's workspace is: readable, and no two names share one, however a disk treats dots and case."""
    return workspace / "users" / f"{user}-{hashlib.sha256(user.encode()).hexdigest()[:8]}"


class Users:
    """The file, read again whenever it changes: a running server knows at once who was added or removed.

    Args:
        path: The file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, ...] | None = None
        self._hashes: dict[str, str] = {}

    def names(self) -> list[str]:
        """Everybody who may log in."""
        return sorted(self._read())

    def set(self, name: str, password: str) -> None:
        """Add somebody, or give somebody another password.

        Raises:
            InputError: The name or the password will not do; says why.
        """
        if not _NAME.fullmatch(name):
            raise InputError(
                f"{name!r} is no name for a user; use up to 32 of a-z, 0-9, dot, underscore and hyphen, and begin "
                "with a letter or digit"
            )
        if not SHORTEST <= len(password) <= LONGEST:
            raise InputError(
                f"a password has {SHORTEST} to {LONGEST} characters; this one has {len(password)}"
            )
        self._write({**self._read(), name: hasher().hash(password)})

    def remove(self, name: str) -> None:
        """Take somebody away; whoever is logged in under that name is logged out.

        Raises:
            InputError: There is nobody of that name.
        """
        known = dict(self._read())
        if known.pop(name, None) is None:
            raise InputError(f"there is no user {name!r}; known: {', '.join(known) or 'nobody'}")
        self._write(known)

    def check(self, name: str, password: str) -> bool:
        """Whether this is the password of that user; takes as long for names that do not exist."""
        from argon2.exceptions import InvalidHashError, VerificationError

        known = self._read().get(name)
        try:
            hasher().verify(known or _nobody(), password[: LONGEST + 1])
        except (VerificationError, InvalidHashError):
            return False
        return known is not None

    def stamp(self, name: str) -> str:
        """Changes with the password; "" when there is no such user."""
        known = self._read().get(name)
        return hashlib.sha256(known.encode()).hexdigest() if known else ""

    def _read(self) -> dict[str, str]:
        try:
            state = self.path.stat()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise InputError(f"the users' file '{self.path}' cannot be read: {error}") from error
        seen = (state.st_mtime_ns, state.st_size, state.st_ino, state.st_mode)
        if seen == self._seen:
            return self._hashes
        if os.name == "posix" and state.st_mode & 0o077:
            raise InputError(
                f"the users' file '{self.path}' can be read or changed by other accounts of this machine; "
                f"run: chmod 600 '{self.path}'"
            )
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))["users"]
            self._hashes = {str(name): str(value) for name, value in found.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"the users' file '{self.path}' is damaged ({error}); remove it and add the users again"
            ) from error
        self._seen = seen
        return self._hashes

    def _write(self, users: dict[str, str]) -> None:
        text = json.dumps({"version": _VERSION, "users": dict(sorted(users.items()))}, indent=1)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_private(self.path, text)
        except OSError as error:
            raise InputError(f"the users' file '{self.path}' cannot be written: {error}") from error
        self._seen = None


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all.

    Raises:
        OSError: It cannot be written.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-")  # made with mode 600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


@functools.cache
def hasher() -> PasswordHasher:
    """Argon2id with the library's parameters (RFC 9106, low memory: 64 MiB, three passes)."""
    from argon2 import PasswordHasher

    return PasswordHasher()


@functools.cache
def _nobody() -> str:
    """The hash of a password that nobody has, to spend as much time on unknown names as on known ones."""
    return hasher().hash(secrets.token_urlsafe(32))


def main(arguments: Sequence[str]) -> int:
    """The command; returns the exit status."""
    made = argparse.ArgumentParser(
        prog="app.py users",
        description="Who may log in where the page is open to other machines. Passwords are kept as Argon2id hashes; "
        "a running server sees every change at once.",
    )
    made.add_argument("action", choices=("add", "password", "remove", "list"))
    made.add_argument("name", nargs="?", metavar="NAME", help="a-z, 0-9, dot, underscore, hyphen")
    made.add_argument("--users", type=Path, metavar="FILE", help=f"the file (default: {usual_file()})")
    made.add_argument(
        "--password-stdin", action="store_true", help="read the password from standard input, one line"
    )
    made.add_argument(
        "--delete-data", action="store_true", help="with remove: delete the user's workspace too, for good"
    )
    made.add_argument(
        "--workspace",
        type=Path,
        default=Path("workspace/demo"),
        metavar="DIR",
        help="with --delete-data: the server's workspace (default: workspace/demo)",
    )
    given = made.parse_args(arguments)
    if given.delete_data and given.action != "remove":
        made.error("--delete-data goes with remove")
    users = Users(given.users or usual_file())
    if given.action != "list" and not given.name:
        made.error(f"{given.action} needs a NAME")
    try:
        print(_done(given, users))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _done(given: argparse.Namespace, users: Users) -> str:
    if given.action == "list":
        return "\n".join(users.names()) or f"Nobody yet ({users.path})."
    if given.action == "remove":
        return _removed(given, users)
    known = given.name in users.names()
    if given.action == "add" and known:
        raise InputError(
            f"there is a user {given.name!r} already; 'users password {given.name}' gives another password"
        )
    if given.action == "password" and not known:
        raise InputError(f"there is no user {given.name!r}; 'users add {given.name}' adds one")
    users.set(given.name, _password(given.password_stdin))
    return f"{given.name} can log in ({users.path})."


def _removed(given: argparse.Namespace, users: Users) -> str:
    """Whoever was removed before can still have their data deleted."""
    name = str(given.name)
    if not given.delete_data or name in users.names():
        users.remove(name)
    gone = f"{name} can no longer log in."
    if not given.delete_data:
        return (
            f"{gone} Their workspace stays on the disk, and would be that of a user added again under this name; "
            f"'users remove {name} --delete-data --workspace DIR' deletes it."
        )
    folder = deleted(given.workspace, name)
    if folder is None:
        return f"{gone} There is no workspace of theirs in '{given.workspace}'; --workspace DIR names another server's."
    return f"{gone} Their workspace was deleted ({folder})."


def deleted(workspace: Path, user: str) -> Path | None:
    """Delete a user's workspace; returns its folder, None where there was none.

    Raises:
        InputError: It cannot be deleted.
    """
    folder = folder_of(workspace, user)
    gone = folder.with_name(f".{folder.name}.deleted")
    try:
        if folder.is_dir():
            folder.rename(gone)
        elif not gone.is_dir():
            return None
        shutil.rmtree(gone)
    except OSError as error:
        raise InputError(f"the workspace '{folder}' cannot be deleted: {error}") from error
    return folder


def _password(piped: bool) -> str:
    if piped:
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass.getpass(f"Password ({SHORTEST} characters or more): ")
    if first != getpass.getpass("Again: "):
        raise InputError("the two passwords differ; nothing was changed")
    return first
