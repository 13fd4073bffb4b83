-- When something may have been written unseen: a pass that began before is no proof.
ALTER TABLE hal9mig.sweeps ADD COLUMN distrusted_at timestamptz;
