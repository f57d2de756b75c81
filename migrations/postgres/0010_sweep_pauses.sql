-- Sweeps that an operator lets rest, on every node.

CREATE TABLE hadir_sweep_pauses (
    sweep text PRIMARY KEY,
    until timestamptz NOT NULL
);
