-- Declares the mirror seeded: from here on it is believed, counted and published. ARGV: the epoch to set if there is
-- none. Answers the pulse.
if not epoch then
  epoch = ARGV[FIXED_ARGS + 1]
  call('SET', K_EPOCH, epoch)
  call('DEL', K_PUBLISHED)
  published = { '0', false, false, false, published[5], sizes() }
  call('HSET', K_PUBLISHED, 'version', 0, 'sizes', published[6])
  if published[5] then
    call('HSET', K_PUBLISHED, 'history_ms', published[5])
  end
end
return pulse()
