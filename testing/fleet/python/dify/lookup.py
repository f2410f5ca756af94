"""A request: from the cache, or from the database through the lock where the version has one.

Nothing fences the write at its end. A load that began before a revocation writes the old row back
after it: the weakness that a migration lives with, and that the tests on the Rust side must know.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import redis

from cache import Cache
from record import Record


class Denied(Exception):
    """The row exists but may not be used: an error for the client, and nothing is cached."""


class DatabaseFailed(Exception):
    pass


@dataclass(frozen=True)
class Row:
    record: Record | None
    #: The database's own number of this load, if it counts them.
    load: int | None


@dataclass(frozen=True)
class Written:
    load: int | None
    sent: int
    replied: int


class Lookup:
    def __init__(
        self,
        cache: Cache,
        query: Callable[[str, str | None], Row],
        on_write: Callable[[Written], None] = lambda _: None,
    ) -> None:
        self._cache = cache
        self._query = query
        self._on_write = on_write

    def fetch(self, token: str, scope: str | None) -> Record | None:
        """Returns `None` for a token that does not exist. A failure of Redis is not an error of the request."""
        try:
            found = self._cache.look(token, scope)
            if found.record:
                return found.record
            if not self._cache.form.locked:
                return self._load(token, scope)
            return self._load_under_lock(token, scope)
        except redis.RedisError:
            return self._load(token, scope)

    def _load_under_lock(self, token: str, scope: str | None) -> Record | None:
        lock = self._cache.redis.lock(
            f"api_token_query_lock:{scope}:{token}", timeout=10, blocking_timeout=5
        )
        if not lock.acquire(blocking=True):
            return self._load(token, scope)
        try:
            found = self._cache.look(token, scope)
            if found.record:
                return found.record
            return self._load(token, scope)
        finally:
            try:
                lock.release()
            except redis.RedisError:
                # The lock expired, or Redis failed: the answer is still right.
                pass

    def _load(self, token: str, scope: str | None) -> Record | None:
        row = self._query(token, scope)
        sent = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        try:
            self._cache.set(token, scope, row.record)
        except redis.RedisError:
            # It may have been written anyway.
            pass
        replied = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        self._on_write(Written(row.load, sent, replied))
        return row.record
