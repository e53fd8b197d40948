-- A schedule may trim its volume.

ALTER TABLE schedules ADD COLUMN trim INTEGER NOT NULL DEFAULT 0 CHECK (trim IN (0, 1));
