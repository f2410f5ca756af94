-- The token's text with KEY_LAYOUT=dify, whose cache keys contain it, so that invalidations need it. NULL with
-- KEY_LAYOUT=digest.
ALTER TABLE tokens ADD COLUMN token TEXT;

CREATE UNIQUE INDEX tokens_by_text ON tokens (token) WHERE token IS NOT NULL;
