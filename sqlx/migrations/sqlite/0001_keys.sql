-- Times are microseconds since the Unix epoch, in UTC: SQLite has no type for them, and integers compare.

-- API keys by the digest of their text. The text itself is stored nowhere.
CREATE TABLE api_token_keys (
    id            TEXT PRIMARY KEY NOT NULL,
    tenant_id     TEXT NOT NULL,
    app_id        TEXT,
    token_type    TEXT,
    name          TEXT,
    -- OAuth scopes with a space between them.
    scopes        TEXT NOT NULL DEFAULT '',
    -- JSON, as the service gave it.
    metadata      TEXT,
    -- SHA-256 of the text.
    digest        BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
    created_at    INTEGER NOT NULL,
    expires_at    INTEGER,
    revoked_at    INTEGER,
    last_used_at  INTEGER,
    -- A key is rotated once: of two rotations at once, the one that finds a successor here makes none. With
    -- what undoes it: when the key would have expired.
    successor_id        TEXT,
    predecessor_id      TEXT,
    rotated_at          INTEGER,
    unrotated_expires_at INTEGER
) STRICT;

-- The pages of one tenant's keys.
CREATE INDEX api_token_keys_by_tenant ON api_token_keys (tenant_id, id);

-- What ended long ago.
CREATE INDEX api_token_keys_by_revocation ON api_token_keys (revoked_at) WHERE revoked_at IS NOT NULL;
CREATE INDEX api_token_keys_by_expiry ON api_token_keys (expires_at) WHERE expires_at IS NOT NULL;

-- Tenants that are or were suspended. One without a row is active.
CREATE TABLE api_token_tenants (
    id           TEXT PRIMARY KEY NOT NULL,
    suspended_at INTEGER
) STRICT;

-- What is committed but not yet confirmed to be gone from every cache. One row a subject; a newer change of the
-- same subject gives the row a new id, so that a confirmation of the older one leaves it in place.
CREATE TABLE api_token_outbox (
    id         TEXT PRIMARY KEY NOT NULL,
    kind       TEXT NOT NULL CHECK (kind IN ('key', 'tenant')),
    -- The digest in hex, or the tenant's id.
    subject    TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0,
    UNIQUE (kind, subject)
) STRICT;

CREATE INDEX api_token_outbox_in_order ON api_token_outbox (attempts, created_at);

-- The namespaces of caches whose store is shared. While there is one, a process whose caches are all in its memory
-- confirms nothing. Delete a row when no process uses that store any longer.
CREATE TABLE api_token_stores (
    namespace TEXT PRIMARY KEY,
    since     INTEGER NOT NULL
) STRICT;

-- Who changed what, and when.
CREATE TABLE api_token_audit (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    at        INTEGER NOT NULL,
    action    TEXT NOT NULL,
    key_id    TEXT,
    tenant_id TEXT,
    actor     TEXT,
    detail    TEXT
) STRICT;

CREATE INDEX api_token_audit_by_key ON api_token_audit (key_id, id) WHERE key_id IS NOT NULL;
CREATE INDEX api_token_audit_by_tenant ON api_token_audit (tenant_id, id) WHERE tenant_id IS NOT NULL;
