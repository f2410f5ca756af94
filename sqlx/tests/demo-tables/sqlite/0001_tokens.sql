-- Times are microseconds since the Unix epoch, in UTC: SQLite has no type for them, and integers compare.

CREATE TABLE tenants (
    id     TEXT PRIMARY KEY NOT NULL,
    name   TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended'))
) STRICT;

CREATE TABLE tokens (
    id           TEXT PRIMARY KEY NOT NULL,
    tenant_id    TEXT NOT NULL REFERENCES tenants (id),
    app_id       TEXT,
    type         TEXT NOT NULL CHECK (type IN ('app', 'dataset')),
    -- SHA-256 of the token in lower-case hex. The text itself is kept nowhere.
    digest       TEXT NOT NULL UNIQUE CHECK (length(digest) = 64),
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    revoked_at   INTEGER,
    last_used_at INTEGER
) STRICT;

CREATE INDEX tokens_by_tenant ON tokens (tenant_id);

-- The outbox: what is committed but not yet confirmed to be gone from every cache. One row a subject; a newer
-- change of the same subject gives the row a new id, so that a confirmation of the older one leaves it in place.
CREATE TABLE pending_invalidations (
    id         TEXT PRIMARY KEY NOT NULL,
    kind       TEXT NOT NULL CHECK (kind IN ('token_digest', 'tenant')),
    subject    TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0,
    UNIQUE (kind, subject)
) STRICT;
