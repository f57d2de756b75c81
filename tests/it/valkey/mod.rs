//! Valkey as operators meet it: its outages in the log, TLS, passwords, rights, sockets, and what `hadir check` finds.

mod outage;
