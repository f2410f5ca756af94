CREATE TABLE tenants (
    id        text PRIMARY KEY,
    suspended boolean NOT NULL DEFAULT false
);

CREATE TABLE tokens (
    -- The token's public name.
    id         text PRIMARY KEY DEFAULT 'tok_' || gen_random_uuid() CHECK (id <> ''),
    tenant_id  text NOT NULL REFERENCES tenants,
    app_id     text,
    type       text NOT NULL,
    -- SHA-256 of the token. The text itself is kept nowhere.
    digest     bytea NOT NULL UNIQUE CHECK (octet_length(digest) = 32),
    expires_at timestamptz,
    revoked_at timestamptz
);

-- Invalidations that are still to be performed. A change has taken effect when its rows are gone.
CREATE TABLE pending_invalidations (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind    text NOT NULL CHECK (kind IN ('token_digest', 'tenant')),
    subject text NOT NULL CHECK (kind = 'tenant' OR subject ~ '^[0-9a-f]{64}$')
);

-- Each change records its invalidation in its own transaction. So does a new token, because somebody may have tried
-- its text before, and "unknown" may be cached.
CREATE FUNCTION owe_tokens() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO pending_invalidations (kind, subject) VALUES ('token_digest', encode(OLD.digest, 'hex'));
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO pending_invalidations (kind, subject) VALUES ('token_digest', encode(NEW.digest, 'hex'));
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER owe_tokens AFTER INSERT OR DELETE OR UPDATE ON tokens
    FOR EACH ROW EXECUTE FUNCTION owe_tokens();

CREATE FUNCTION owe_tenants() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO pending_invalidations (kind, subject) VALUES ('tenant', OLD.id);
    RETURN NULL;
END $$;

CREATE TRIGGER owe_tenants AFTER UPDATE ON tenants
    FOR EACH ROW EXECUTE FUNCTION owe_tenants();
