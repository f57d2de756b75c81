-- Nodes that serve without the mirror at present and write their sockets' heartbeats here. Others import newer ones meanwhile.

CREATE TABLE hadir_lone_nodes (
    node_id text PRIMARY KEY,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
