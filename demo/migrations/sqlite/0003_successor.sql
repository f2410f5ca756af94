-- The token that replaced this one. A token is rotated once: of two concurrent rotations, the one that finds a value
-- here fails.
ALTER TABLE tokens ADD COLUMN successor_id TEXT;
