-- Sweeps that an operator lets rest.

CREATE TABLE hadir_sweep_pauses (
    sweep TEXT PRIMARY KEY,
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
