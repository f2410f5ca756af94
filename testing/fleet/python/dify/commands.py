"""What the tests can ask for: one message with `do` in, one with `done` or `error` out.

In between, a load asks the other side, which is the database: `query` out, `answer` in.
"""

from datetime import datetime
from typing import Any

import redis

from cache import Cache
from channel import Channel
from lookup import DatabaseFailed, Denied, Lookup, Row
from record import Record
from refusal import UNKNOWN, parse
from serve import Load, serve


def shown(record: Record | None) -> dict[str, Any] | None:
    """Formats times by isoformat(), so that a test sees whether they have an offset."""
    if record is None:
        return None
    members = record.model_dump()
    for name in ("last_used_at", "created_at"):
        if members[name]:
            members[name] = members[name].isoformat()
    return members


class Commands:
    def __init__(self, cache: Cache, channel: Channel) -> None:
        self._cache = cache
        self._channel = channel

    def run(self) -> None:
        while True:
            message = self._channel.hear()
            name = message.pop("do")
            try:
                done = getattr(self, f"do_{name}")(**message)
            except redis.RedisError as error:
                self._channel.say(error=f"redis: {type(error).__name__}")
            except (Denied, DatabaseFailed) as error:
                self._channel.say(error=f"{type(error).__name__}: {error}")
            else:
                self._channel.say(done=done)

    def query(self, token: str, scope: str | None) -> Row:
        self._channel.say(query={"token": token, "scope": scope})
        answer = self._channel.hear_answer()
        if "failed" in answer:
            raise DatabaseFailed(answer["failed"])
        if "denied" in answer:
            raise Denied(answer["denied"])
        row = answer["row"]
        return Row(Record(**row) if row else None, answer.get("load"))

    def do_get(self, token: str, scope: str | None) -> Any:
        found = self._cache.look(token, scope)
        return {"record": shown(found.record), "why": found.why}

    def do_set(self, scope: str | None, record: dict[str, Any], timespec: str = "auto") -> None:
        written = Record(**record)
        self._cache.set(written.token, scope, written, timespec)

    def do_set_null(self, token: str, scope: str | None) -> None:
        self._cache.set(token, scope, None)

    def do_fetch(self, token: str, scope: str | None) -> Any:
        return shown(Lookup(self._cache, self.query).fetch(token, scope))

    def do_delete(self, token: str, scope: str) -> None:
        self._cache.delete(token, scope)

    def do_delete_all_scopes(self, token: str) -> None:
        self._cache.delete(token, None)

    def do_invalidate_tenant(self, tenant: str) -> None:
        self._cache.invalidate_tenant(tenant)

    def do_record_use(self, token: str, scope: str | None, at: str) -> None:
        self._cache.record_use(token, scope, datetime.fromisoformat(at))

    def do_read_use(self, token: str, scope: str | None) -> str | None:
        at = self._cache.read_use(token, scope)
        return at.isoformat() if at else None

    def do_effective_use(self, token: str, scope: str | None, persisted: str | None) -> str | None:
        at = datetime.fromisoformat(persisted) if persisted else None
        at = self._cache.effective_use(token, scope, at)
        return at.isoformat() if at else None

    def do_flush_uses(self) -> list[Any]:
        return [(token, scope, at.isoformat()) for token, scope, at in self._cache.flush_uses()]

    def do_request(self, authorization: str | None, scope: str | None) -> Any:
        """Handles a request with this header, and returns the record's id or the body of the rejection."""
        token = parse(authorization)
        if isinstance(token, str):
            record = Lookup(self._cache, self.query).fetch(token, scope)
            if record:
                return {"id": record.id}
            token = UNKNOWN
        return {"refusal": token.body()}

    def do_serve(self, **load: Any) -> int:
        return serve(self._cache, self._channel, self.query, Load(**load))
