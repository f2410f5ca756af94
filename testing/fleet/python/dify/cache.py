"""The versions' use of Redis: names, TTLs, deletions."""

import json
from dataclasses import dataclass
from datetime import datetime, timezone

from client import PrefixedClient
from record import Form, Record


@dataclass(frozen=True)
class Ttls:
    """In seconds, as published."""

    record: int = 600
    null: int = 60
    index: int = 660
    last_use: int = 3600


@dataclass(frozen=True)
class Found:
    """The state of a key. The service uses only the record; tests also see why there is none."""

    record: Record | None
    why: str


def entry_name(token: str, scope: str | None) -> str:
    return f"api_token:{scope or 'any'}:{token}"


def index_name(tenant: str) -> str:
    return f"tenant_tokens:{tenant}"


def last_use_name(token: str, scope: str | None) -> str:
    return f"api_token_active:{scope}:{token}"


class Cache:
    def __init__(self, redis: PrefixedClient, form: Form, ttls: Ttls) -> None:
        self.redis = redis
        self.form = form
        self._ttls = ttls

    def look(self, token: str, scope: str | None) -> Found:
        data = self.redis.get(entry_name(token, scope))
        if data is None:
            return Found(None, "missing")
        if data == b"null":
            # A miss for the service, in all versions.
            return Found(None, "null")
        try:
            return Found(self.form.load(data), "record")
        except (ValueError, KeyError, TypeError):
            return Found(None, "undecodable")

    def set(self, token: str, scope: str | None, record: Record | None, timespec: str = "auto") -> None:
        name = entry_name(token, scope)
        if record is None:
            self.redis.setex(name, self._ttls.null, "null")
            return
        self.redis.setex(name, self._ttls.record, self.form.dump(record, timespec))
        if self.form.indexed and record.tenant_id:
            index = index_name(record.tenant_id)
            self.redis.sadd(index, name)
            self.redis.expire(index, self._ttls.index)

    def delete(self, token: str, scope: str | None) -> None:
        """Deletes the entry of one type, or of all types without one."""
        if scope is None:
            # The token is not escaped, so glob characters in it match other keys.
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
            # The first version deletes every tenant's entries.
            for name in self.redis.scan_iter(match="api_token:*"):
                self.redis.delete(name)
            return
        index = index_name(tenant)
        names = self.redis.smembers(index)
        if self.form.scans and not names:
            for name in self.redis.scan_iter(match="api_token:*"):
                if self._tenant_of(self.redis.get(name)) == tenant:
                    self.redis.delete(name)
            return
        for name in names:
            self.redis.delete(name)
        self.redis.delete(index)

    def _tenant_of(self, data: bytes | None) -> str | None:
        """Skips entries that cannot be read, with a line in the service's log."""
        try:
            return json.loads(data)["tenant_id"] if data else None
        except (ValueError, KeyError, TypeError):
            return None

    def record_use(self, token: str, scope: str | None, at: datetime) -> None:
        naive = _naive(at).isoformat()
        self.redis.set(last_use_name(token, scope), naive, ex=self._ttls.last_use)

    def read_use(self, token: str, scope: str | None) -> datetime | None:
        data = self.redis.get(last_use_name(token, scope))
        return datetime.fromisoformat(data.decode()) if data else None

    def effective_use(self, token: str, scope: str | None, persisted: datetime | None) -> datetime | None:
        """Returns the later of the database's and the recorded time, which the newest version shows."""
        data = self.redis.get(last_use_name(token, scope))
        try:
            pending = datetime.fromisoformat(data.decode()) if data else None
        except (UnicodeDecodeError, ValueError):
            pending = None
        if pending is None or persisted is None:
            return pending or persisted
        return max(pending, persisted, key=_naive)

    def flush_uses(self) -> list[tuple[str, str | None, datetime]]:
        """Takes the recorded uses out of Redis, as the service's job that writes them to the database does."""
        taken = []
        names = list(self.redis.scan_iter(match="api_token_active:*"))
        for name in names:
            data = self.redis.get(name)
            parts = name.decode().removeprefix("api_token_active:").split(":", 1)
            if data and len(parts) == 2:
                scope, token = parts
                at = datetime.fromisoformat(data.decode())
                taken.append((token, None if scope == "None" else scope, at))
        for name in names:
            self.redis.delete(name)
        return taken


def _naive(at: datetime) -> datetime:
    return at.astimezone(timezone.utc).replace(tzinfo=None) if at.tzinfo else at
