"""Log-ins: tickets that a browser holds, and waits that grow with every wrong password."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import ipaddress
import json
import logging
import math
import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path

from app.users import Users, write_private
from ltg_core.errors import InputError

log = logging.getLogger(__name__)

COOKIE = "ltg_session"
IDLE, LONGEST = 7 * 24 * 3600, 30 * 24 * 3600
"""Seconds after which a ticket ends: unused, and in any case."""
_WRITTEN = 600.0  # seconds between two writes of when tickets were last used
_VERSION = 1
_TICKETS = 50  # of one user; the oldest is dropped
_HASHING = 2  # passwords that are looked at at a time: each takes 64 MiB
_WAITING = 50  # that may wait for it
# Wrong passwords that cost nothing, and the longest wait, by what is counted: one name from one address, one name from
# anywhere (short, or strangers could lock a user out), one address with any name.
_RULES = {"pair": (3, 900.0), "name": (10, 60.0), "address": (20, 900.0)}
_FORGOTTEN = 3600.0  # seconds without a wrong password
_COUNTED = 20_000  # entries at most

Clock = Callable[[], float]


class Throttle:
    """Counts wrong passwords per name and address; after a few of them every further one doubles the wait.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, ...], tuple[int, float]] = {}  # how many, and when the last one was

    def attempt(self, name: str, address: str) -> float:
        """Count an attempt before it is known whether it succeeds, so that many at once are counted too.

        Returns:
            Seconds to wait; 0 where it may be made now. One that has to wait is not counted.
        """
        now, keys = self._clock(), self._keys(name, address)
        with self._lock:
            wait = max(self._until(rule, key) - now for rule, key in keys.items())
            if wait > 0:
                return wait
            self._forget(now)
            for key in keys.values():
                self._counts[key] = (self._counts.get(key, (0, 0.0))[0] + 1, now)
            return 0.0

    def succeeded(self, name: str, address: str) -> None:
        """The attempt was right. The address keeps its other failures: one's own account must not wash them off."""
        keys = self._keys(name, address)
        with self._lock:
            self._counts.pop(keys["pair"], None)
            self._counts.pop(keys["name"], None)
            count, last = self._counts.get(keys["address"], (1, 0.0))
            self._counts[keys["address"]] = (count - 1, last)

    def _until(self, rule: str, key: tuple[str, ...]) -> float:
        free, longest = _RULES[rule]
        count, last = self._counts.get(key, (0, -math.inf))
        return last + min(2.0 ** min(count - free, 60), longest) if count >= free else -math.inf

    def _keys(self, name: str, address: str) -> dict[str, tuple[str, ...]]:
        place = _network(address)
        return {"pair": ("pair", name, place), "name": ("name", name), "address": ("address", place)}

    def _forget(self, now: float) -> None:
        if len(self._counts) < _COUNTED:
            return
        self._counts = {key: one for key, one in self._counts.items() if now - one[1] < _FORGOTTEN}
        for key in list(self._counts)[: max(0, len(self._counts) - _COUNTED + 3)]:
            del self._counts[key]


def _network(address: str) -> str:
    """The address, of IPv6 its /64, which is one household."""
    try:
        found = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return address
    return str(found) if found.version == 4 else str(ipaddress.ip_network((found, 64), strict=False))


@dataclasses.dataclass
class _Ticket:
    name: str
    stamp: str  # of the password that it was given for
    made: float
    used: float


class Refused(Exception):
    """No ticket.

    Attributes:
        status: Of the answer.
        text: For the page.
        wait: Seconds, or 0.
    """

    def __init__(self, status: int, text: str, wait: int = 0) -> None:
        super().__init__(text)
        self.status, self.text, self.wait = status, text, wait


class Logins:
    """Who is logged in. Only hashes of the tickets are kept, in memory and in a file that its owner alone may read.

    Args:
        users: Who may.
        clock: Seconds, also of other processes.
        file: Where a restart finds who was logged in; None for nowhere.
    """

    def __init__(self, users: Users, clock: Clock = time.time, *, file: Path | None = None) -> None:
        self.users, self.throttle = users, Throttle()
        self._clock, self._file, self._written = clock, file, clock()
        self._tickets: dict[str, _Ticket] = _read(file) if file is not None else {}
        self._lock = threading.Lock()
        self._hashing = asyncio.Semaphore(_HASHING)
        self._waiting = 0

    async def enter(self, name: str, password: str, address: str) -> str:
        """A ticket for the right password.

        Raises:
            Refused: Wrong, or too many attempts.
        """
        name = name.strip().lower()[:64]
        if self._waiting >= _WAITING:
            raise Refused(503, "Too many people are logging in; try again in a few seconds.", 5)
        wait = self.throttle.attempt(name, address)
        if wait > 0:
            seconds = math.ceil(wait)
            raise Refused(429, f"Too many attempts to log in. Wait {seconds} s, then try again.", seconds)
        self._waiting += 1
        try:
            async with self._hashing:
                right = await asyncio.to_thread(self.users.check, name, password)
        except InputError as error:
            log.exception("nobody can log in")
            raise Refused(503, "Nobody can log in just now; the server's log says why.") from error
        finally:
            self._waiting -= 1
        if not right:
            raise Refused(401, "Name or password is wrong.")
        self.throttle.succeeded(name, address)
        return self._new(name)

    def user(self, ticket: str) -> str | None:
        """Whose ticket this is; None for none, one that has run out, or one of a user who changed."""
        key, now = _key(ticket), self._clock()
        with self._lock:
            found = self._tickets.get(key)
            if found is None:
                return None
            if _over(found, now) or not found.stamp or self._stamp(found.name) != found.stamp:
                del self._tickets[key]
                self._write()
                return None
            found.used = now
            if now - self._written > _WRITTEN:
                self._write()
            return found.name

    def leave(self, ticket: str) -> None:
        """Log out."""
        with self._lock:
            if self._tickets.pop(_key(ticket), None) is not None:
                self._write()

    def _write(self) -> None:
        """Keep what a restart should find."""
        now = self._written = self._clock()
        if self._file is None:
            return
        kept = {key: dataclasses.asdict(one) for key, one in self._tickets.items() if not _over(one, now)}
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_private(self._file, json.dumps({"version": _VERSION, "tickets": kept}))
        except OSError:  # the log-in holds until the server ends
            log.exception("who is logged in could not be written to %s", self._file)

    def _stamp(self, name: str) -> str:
        try:
            return self.users.stamp(name)
        except InputError:  # a file that cannot be read, or that others may write, lets nobody in
            log.exception("nobody can log in")
            return ""

    def _new(self, name: str) -> str:
        ticket, now = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            self._tickets[_key(ticket)] = _Ticket(name, self._stamp(name), now, now)
            own = [key for key, one in self._tickets.items() if one.name == name]
            for key in own[:-_TICKETS]:
                del self._tickets[key]
            self._write()
        return ticket


def _over(ticket: _Ticket, now: float) -> bool:
    return now - ticket.used > IDLE or now - ticket.made > LONGEST


def _read(file: Path) -> dict[str, _Ticket]:
    """Tickets of an earlier server; none where somebody else may have written them, or the file is damaged."""
    try:
        if os.name == "posix" and file.stat().st_mode & 0o077:
            log.warning("%s can be read by other accounts; everybody has to log in again", file)
            return {}
        found = json.loads(file.read_text(encoding="utf-8"))["tickets"]
        return {
            str(key): _Ticket(str(one["name"]), str(one["stamp"]), float(one["made"]), float(one["used"]))
            for key, one in found.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        log.warning("%s is damaged; everybody has to log in again", file)
        return {}


def _key(ticket: str) -> str:
    return hashlib.sha256(ticket.encode()).hexdigest()
