"""The service's Redis client with REDIS_KEY_PREFIX, and its quirk.

Only some commands know of the prefix. Those on sets, and SCAN, do not: the tenants' index and its
members are never prefixed, and a search by pattern finds nothing under a prefix.
"""

from __future__ import annotations

from collections.abc import Iterator

import redis
from redis.lock import Lock


class PrefixedClient:
    def __init__(self, connection: redis.Redis, prefix: str) -> None:
        self._redis = connection
        prefix = prefix.strip()
        self._prefix = f"{prefix}:" if prefix else ""

    def _name(self, name: str | bytes) -> str:
        text = name.decode() if isinstance(name, bytes) else name
        return self._prefix + text

    # With the prefix.

    def get(self, name: str) -> bytes | None:
        return self._redis.get(self._name(name))

    def set(self, name: str, value: str, ex: int) -> None:
        self._redis.set(self._name(name), value, ex=ex)

    def setex(self, name: str, seconds: int, value: str) -> None:
        self._redis.setex(self._name(name), seconds, value)

    def delete(self, name: str | bytes) -> int:
        return self._redis.delete(self._name(name))

    def expire(self, name: str, seconds: int) -> None:
        self._redis.expire(self._name(name), seconds)

    def lock(self, name: str, timeout: float, blocking_timeout: float) -> Lock:
        return self._redis.lock(self._name(name), timeout=timeout, blocking_timeout=blocking_timeout)

    # Without it.

    def sadd(self, name: str, member: str) -> None:
        self._redis.sadd(name, member)

    def srem(self, name: str, member: str) -> None:
        self._redis.srem(name, member)

    def smembers(self, name: str) -> set[bytes]:
        return self._redis.smembers(name)

    def scan_iter(self, match: str) -> Iterator[bytes]:
        return self._redis.scan_iter(match=match)
