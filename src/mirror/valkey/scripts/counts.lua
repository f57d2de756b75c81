-- The counts, without a walk. Answers {pulse, {online, listed, reachable, available, deactivated}}.
return { pulse(), {
  call('SCARD', K_ONLINE),
  call('ZCARD', K_LIVENESS),
  call('ZCOUNT', K_LIVENESS, fresh_from, '+inf'),
  call('ZCOUNT', K_AVAILABLE, fresh_from, '+inf'),
  call('SCARD', K_DEACTIVATED),
} }
