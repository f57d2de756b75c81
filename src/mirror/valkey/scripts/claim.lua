-- Takes silent mitras out of sets, indexes and heartbeat keys; the record stays and says so. Each one's exact score is
-- looked at again here. KEYS per id: heartbeat, capacity. ARGV: silent_ms; ids.
-- Answers {pulse, claimed}; three words per claimed id: id, online_epoch, last heartbeat ms.
local until_ms = now - tonumber(ARGV[FIXED_ARGS + 1])
touched = true
local claimed = {}
for position = 1, #ARGV - FIXED_ARGS - 1 do
  local id = ARGV[FIXED_ARGS + 1 + position]
  local heartbeat_key, capacity_key = KEYS[FIXED_KEYS + position * 2 - 1], KEYS[FIXED_KEYS + position * 2]
  local record = call('HGET', K_MITRAS, id)
  local state, online_epoch, generation, revision, sessions, max_sessions, last_ms
  if record then
    state, online_epoch, generation, revision, sessions, max_sessions, last_ms = record:match(RECORD)
  end

  if state == 'o' then
    local score = tonumber(call('ZSCORE', K_LIVENESS, id))
    if score and score <= until_ms then
      call('SREM', K_ONLINE, id)
      call('ZREM', K_LIVENESS, id)
      call('ZREM', K_AVAILABLE, id)
      call('DEL', heartbeat_key)
      if sessions == '0' then
        call('DEL', capacity_key)
      end
      call('HSET', K_MITRAS, id, table.concat(
        { 'c', online_epoch, generation, revision, sessions, max_sessions, whole(score) }, ':'))
      call('ZADD', K_CLAIMED, now, id)
      claimed[#claimed + 1] = id
      claimed[#claimed + 1] = online_epoch
      claimed[#claimed + 1] = whole(score)
    end
  elseif state == 'c' then
    -- Claimed before. Once abandoned it is anybody's, whatever it beat meanwhile: the truth decides.
    local since = tonumber(call('ZSCORE', K_CLAIMED, id))
    if not since or since <= fresh_from or since > now then
      call('ZADD', K_CLAIMED, now, id)
      claimed[#claimed + 1] = id
      claimed[#claimed + 1] = online_epoch
      claimed[#claimed + 1] = last_ms
    end
  else
    -- Something newer was applied; the mark of the claim is of no use any more.
    call('ZREM', K_CLAIMED, id)
  end
end
return { pulse(), claimed }
