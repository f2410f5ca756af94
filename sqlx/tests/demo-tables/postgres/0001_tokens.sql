CREATE TABLE tenants (
    id     TEXT PRIMARY KEY,
    name   TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended'))
);

CREATE TABLE tokens (
    id           TEXT PRIMARY KEY,
    tenant_id    TEXT NOT NULL REFERENCES tenants (id),
    app_id       TEXT,
    type         TEXT NOT NULL CHECK (type IN ('app', 'dataset')),
    -- SHA-256 of the token in lower-case hex. The text itself is kept nowhere.
    digest       TEXT NOT NULL UNIQUE CHECK (length(digest) = 64),
    created_at   TIMESTAMPTZ NOT NULL,
    expires_at   TIMESTAMPTZ,
    revoked_at   TIMESTAMPTZ,
    last_used_at TIMESTAMPTZ
);

CREATE INDEX tokens_by_tenant ON tokens (tenant_id);

-- The outbox: what is committed but not yet confirmed to be gone from every cache. One row a subject; a newer
-- change of the same subject gives the row a new id, so that a confirmation of the older one leaves it in place.
CREATE TABLE pending_invalidations (
    id         TEXT PRIMARY KEY,
    kind       TEXT NOT NULL CHECK (kind IN ('token_digest', 'tenant')),
    subject    TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    attempts   BIGINT NOT NULL DEFAULT 0,
    UNIQUE (kind, subject)
);
