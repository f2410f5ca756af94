-- The token itself, with KEY_LAYOUT=dify alone: the cache keys of that layout contain it, so without it
-- nothing could be invalidated. With KEY_LAYOUT=digest it stays NULL.
ALTER TABLE tokens ADD COLUMN token TEXT;

CREATE UNIQUE INDEX tokens_by_text ON tokens (token) WHERE token IS NOT NULL;
