-- Instances that start together come here one after the other: statements that are sent together are one
-- transaction, and the lock lasts as long as it does.
SELECT pg_advisory_xact_lock(8310);

CREATE TABLE IF NOT EXISTS tenants (
    id        TEXT PRIMARY KEY,
    suspended BOOLEAN NOT NULL DEFAULT false
);

CREATE TABLE IF NOT EXISTS tokens (
    -- The token's public name: for lists, logs and revocations.
    id         TEXT PRIMARY KEY DEFAULT 'tok_' || gen_random_uuid(),
    tenant_id  TEXT NOT NULL REFERENCES tenants,
    type       TEXT NOT NULL,
    -- SHA-256 of the token. The text itself is kept nowhere.
    digest     BYTEA NOT NULL UNIQUE CHECK (octet_length(digest) = 32),
    expires_at TIMESTAMPTZ,
    revoked_at TIMESTAMPTZ
);

-- The outbox (outbox.rs).
CREATE TABLE IF NOT EXISTS pending_invalidations (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind    text NOT NULL CHECK (kind IN ('token_digest', 'tenant')),
    subject text NOT NULL CHECK (kind = 'tenant' OR subject ~ '^[0-9a-f]{64}$')
);
