"""The table of tokens."""

import os
import sqlite3

COLUMNS = "id, app_id, tenant_id, type, token, last_used_at, created_at"


def create(path: str, tokens: int) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE api_tokens ({COLUMNS})")
        connection.execute("CREATE INDEX of_token ON api_tokens (token, type)")
        rows = ((f"{n:037}", f"app-{n:037}") for n in range(tokens))
        connection.executemany(
            f"INSERT INTO api_tokens ({COLUMNS}) VALUES (?, NULL, NULL, 'app', ?, NULL, NULL)",
            rows,
        )


class Database:
    """Has a connection for each process, which is opened when it is first used."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._opened: tuple[int, sqlite3.Connection] | None = None

    def find(self, token: str, scope: str | None) -> dict[str, str | None] | None:
        cursor = self._connection().execute(
            f"SELECT {COLUMNS} FROM api_tokens WHERE token = ? AND type = ?", (token, scope)
        )
        row = cursor.fetchone()
        return dict(zip(COLUMNS.split(", "), row)) if row else None

    def _connection(self) -> sqlite3.Connection:
        if self._opened is None or self._opened[0] != os.getpid():
            opened = sqlite3.connect(self._path, check_same_thread=False)
            self._opened = os.getpid(), opened
        return self._opened[1]
