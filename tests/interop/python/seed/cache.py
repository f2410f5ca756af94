"""What both versions do in Redis: names, lifetimes, deletions."""

from dataclasses import dataclass
from datetime import datetime, timezone

from client import PrefixedClient
from record import Form, Record


@dataclass(frozen=True)
class Lifetimes:
    """In seconds, as published."""

    record: int = 600
    null: int = 60
    index: int = 660
    last_use: int = 3600


@dataclass(frozen=True)
class Found:
    """What lies under a key. Only the record counts for the service; the test also sees why there is none."""

    record: Record | None
    why: str


def entry_name(token: str, scope: str | None) -> str:
    return f"api_token:{scope or 'any'}:{token}"


def index_name(tenant: str) -> str:
    return f"tenant_tokens:{tenant}"


def last_use_name(token: str, scope: str | None) -> str:
    return f"api_token_active:{scope}:{token}"


class Cache:
    def __init__(self, redis: PrefixedClient, form: Form, lifetimes: Lifetimes) -> None:
        self.redis = redis
        self.form = form
        self._lifetimes = lifetimes

    def look(self, token: str, scope: str | None) -> Found:
        data = self.redis.get(entry_name(token, scope))
        if data is None:
            return Found(None, "missing")
        if data == b"null":
            # The same as a miss for the service, in both versions.
            return Found(None, "null")
        try:
            return Found(self.form.load(data), "record")
        except (ValueError, KeyError, TypeError):
            return Found(None, "undecodable")

    def set(self, token: str, scope: str | None, record: Record | None, timespec: str = "auto") -> None:
        name = entry_name(token, scope)
        if record is None:
            self.redis.setex(name, self._lifetimes.null, "null")
            return
        self.redis.setex(name, self._lifetimes.record, self.form.dump(record, timespec))
        if self.form.indexed and record.tenant_id:
            index = index_name(record.tenant_id)
            self.redis.sadd(index, name)
            self.redis.expire(index, self._lifetimes.index)

    def delete(self, token: str, scope: str | None) -> None:
        """In one scope; in all of them if there is none."""
        if scope is None:
            # The token as it is: whoever has glob characters in it gets what they match.
            for name in self.redis.scan_iter(match=f"api_token:*:{token}"):
                self.redis.delete(name)
            return
        name = entry_name(token, scope)
        tenant = None
        if self.form.indexed and (record := self.look(token, scope).record):
            tenant = record.tenant_id
        self.redis.delete(name)
        if tenant:
            self.redis.srem(index_name(tenant), name)

    def invalidate_tenant(self, tenant: str) -> None:
        if not self.form.indexed:
            # The first version knows no better than to drop every tenant's entries.
            for name in self.redis.scan_iter(match="api_token:*"):
                self.redis.delete(name)
            return
        index = index_name(tenant)
        for name in self.redis.smembers(index):
            self.redis.delete(name)
        self.redis.delete(index)

    def record_use(self, token: str, scope: str | None, at: datetime) -> None:
        naive = at.astimezone(timezone.utc).replace(tzinfo=None) if at.tzinfo else at
        self.redis.set(last_use_name(token, scope), naive.isoformat(), ex=self._lifetimes.last_use)

    def read_use(self, token: str, scope: str | None) -> datetime | None:
        data = self.redis.get(last_use_name(token, scope))
        return datetime.fromisoformat(data.decode()) if data else None
