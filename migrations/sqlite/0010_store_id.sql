-- What tells this file from every other one, chosen once.
ALTER TABLE hadir_meta ADD COLUMN store_id TEXT;
UPDATE hadir_meta SET store_id = lower(hex(randomblob(16)));
