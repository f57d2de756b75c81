-- Puts claimed mitras back as they were, unless something newer was applied meanwhile.
-- KEYS per id: heartbeat, capacity. ARGV per id: id, online_epoch, last heartbeat ms. Answers the pulse.
touched = true
for position = 1, (#ARGV - FIXED_ARGS) / 3 do
  local first = FIXED_ARGS + (position - 1) * 3
  local id, claimed_epoch, claimed_ms = ARGV[first + 1], ARGV[first + 2], tonumber(ARGV[first + 3])
  local record = call('HGET', K_MITRAS, id)
  local state, online_epoch, generation, revision, sessions, max_sessions, last_ms
  if record then
    state, online_epoch, generation, revision, sessions, max_sessions, last_ms = record:match(RECORD)
  end

  if state == 'c' and online_epoch == claimed_epoch then
    -- Only forward: a heartbeat may have come while it was claimed.
    local score = math.min(math.max(tonumber(last_ms), claimed_ms), now)
    call('HSET', K_MITRAS, id, table.concat(
      { 'o', online_epoch, generation, revision, sessions, max_sessions }, ':'))
    call('SADD', K_ONLINE, id)
    call('ZADD', K_LIVENESS, score, id)
    if tonumber(sessions) < tonumber(max_sessions) then
      call('ZADD', K_AVAILABLE, score, id)
    end
    call('SETEX', KEYS[FIXED_KEYS + position * 2 - 1], HEARTBEAT_TTL_S, iso(score))
    call('SET', KEYS[FIXED_KEYS + position * 2], sessions)
    call('ZREM', K_CLAIMED, id)
  end
end
return pulse()
