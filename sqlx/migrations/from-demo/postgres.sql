-- Moves the rows of the demo server from before this crate, or of a service that copied it, into the tables of
-- migrations/postgres, which have to exist. Stop the old instances first: they would go on with the old table.
--
-- The digests move, and the texts do not: with the layout that is shared with Dify, copy `tokens.token` into a table of your own
-- before.

INSERT INTO api_token_keys
    (id, tenant_id, app_id, token_type, digest, created_at, expires_at, revoked_at, last_used_at,
     successor_id, predecessor_id, rotated_at, unrotated_expires_at)
SELECT t.id, t.tenant_id, t.app_id, t.type, decode(t.digest, 'hex'), t.created_at, t.expires_at, t.revoked_at, t.last_used_at,
       -- A rotation made the successor, which expires when its predecessor would have.
       t.successor_id, p.id, s.created_at, s.expires_at
FROM tokens AS t
    LEFT JOIN tokens AS p ON p.successor_id = t.id
    LEFT JOIN tokens AS s ON s.id = t.successor_id;

INSERT INTO api_token_tenants (id, suspended_at)
SELECT id, now() FROM tenants WHERE status = 'suspended';

INSERT INTO api_token_outbox (id, kind, subject, created_at, attempts)
SELECT id, CASE kind WHEN 'token_digest' THEN 'key' ELSE 'tenant' END, subject, created_at, attempts
FROM pending_invalidations;

INSERT INTO api_token_audit (at, action, detail) SELECT now(), 'imported', count(*)::text FROM tokens;

-- An old instance that was forgotten fails, and does not revoke where nobody looks. Drop it when you have seen that all is well.
ALTER TABLE tokens RENAME TO tokens_before_keys;
DROP TABLE pending_invalidations;
