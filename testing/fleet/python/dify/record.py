"""An entry's content, and the forms that it was published in."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel


class Record(BaseModel):
    """All seven members are required; pydantic ignores others."""

    id: str
    app_id: str | None
    tenant_id: str | None
    type: str
    token: str
    last_used_at: datetime | None
    created_at: datetime | None


def _isoformat(at: datetime | None, timespec: str = "auto") -> str | None:
    return at.isoformat(timespec=timespec) if at else None


def _from_isoformat(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _dump_first(record: Record, timespec: str = "auto") -> str:
    members = record.model_dump(exclude={"last_used_at", "created_at"})
    members["last_used_at"] = _isoformat(record.last_used_at, timespec)
    members["created_at"] = _isoformat(record.created_at, timespec)
    return json.dumps(members)


def _load_first(data: bytes) -> Record:
    members = json.loads(data)
    members["last_used_at"] = _from_isoformat(members["last_used_at"])
    members["created_at"] = _from_isoformat(members["created_at"])
    return Record(**members)


def _dump_current(record: Record, timespec: str = "auto") -> str:
    if timespec != "auto":
        raise ValueError("pydantic has one form of times")
    return record.model_dump_json()


@dataclass(frozen=True)
class Form:
    """The format of a version's entries, and whether it has the index of tenants and the load lock.

    A version with an index may scan for a tenant's entries where the tenant has none.
    """

    dump: Callable[..., str]
    load: Callable[[bytes], Record]
    indexed: bool
    scans: bool
    locked: bool


FIRST = Form(dump=_dump_first, load=_load_first, indexed=False, scans=False, locked=False)
SECOND = Form(dump=_dump_first, load=_load_first, indexed=True, scans=True, locked=False)
CURRENT = Form(
    dump=_dump_current, load=Record.model_validate_json, indexed=True, scans=False, locked=True
)
FORMS = {"first": FIRST, "second": SECOND, "current": CURRENT}
