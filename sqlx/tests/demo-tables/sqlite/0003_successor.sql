-- The token that took this one's place. A token is rotated once: of two rotations at once, the one that finds
-- something here made no successor.
ALTER TABLE tokens ADD COLUMN successor_id TEXT;
