-- Removes every trace of ids, unless what is known of one is newer than the fence the caller saw.
-- KEYS per id: heartbeat, capacity. ARGV per id: id, generation, revision. Answers {pulse, removed}.
touched = true
local removed = 0
for position = 1, (#ARGV - FIXED_ARGS) / 3 do
  local first = FIXED_ARGS + (position - 1) * 3
  local id, generation, revision = ARGV[first + 1], ARGV[first + 2], ARGV[first + 3]
  local record = call('HGET', K_MITRAS, id)
  local known_generation, known_revision
  if record then
    local _
    _, _, known_generation, known_revision = parse(record)
  end
  if not known_generation or not older(generation, revision, known_generation, known_revision) then
    local traces = call('HDEL', K_MITRAS, id) + call('SREM', K_ONLINE, id) + call('SREM', K_DEACTIVATED, id)
      + call('ZREM', K_LIVENESS, id) + call('ZREM', K_AVAILABLE, id) + call('ZREM', K_CLAIMED, id)
      + call('DEL', KEYS[FIXED_KEYS + position * 2 - 1], KEYS[FIXED_KEYS + position * 2])
    if traces > 0 then
      removed = removed + 1
    end
  end
end
return { pulse(), removed }
