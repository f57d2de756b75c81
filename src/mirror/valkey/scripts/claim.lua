-- Takes silent mitras out of sets, indexes and heartbeat keys, as many as caution allows; the record stays and says so.
-- Each one's exact score is looked at again here.
-- KEYS: the score of caution; per id: heartbeat, capacity.
-- ARGV: silent_ms, then caution: sweep in ms, share in percent, at least, doubted from, release after in ms; ids.
-- Answers {pulse, claimed, silent ones left, '' or 'brake' or 'doubt' or 'lost', for how long in ms}; three words per claimed id: id,
-- online_epoch, last heartbeat ms.
local K_CAUTION = KEYS[FIXED_KEYS + 1]
local OWN_KEYS, OWN_ARGS = FIXED_KEYS + 1, FIXED_ARGS + 6
local until_ms = now - tonumber(ARGV[FIXED_ARGS + 1])
local sweep_ms, share_percent = tonumber(ARGV[FIXED_ARGS + 2]), tonumber(ARGV[FIXED_ARGS + 3])
local at_least, doubted_from = tonumber(ARGV[FIXED_ARGS + 4]), tonumber(ARGV[FIXED_ARGS + 5])
local release_ms = tonumber(ARGV[FIXED_ARGS + 6])

local listed = call('ZCARD', K_LIVENESS)
local fresh = call('ZCOUNT', K_LIVENESS, fresh_from, '+inf')
local silent = call('ZCOUNT', K_LIVENESS, '-inf', until_ms)
local score = call('HMGET', K_CAUTION, 'began_ms', 'room', 'braked_ms', 'doubted_ms')
local began_ms, room = score[1], tonumber(score[2]) or 0

-- Since when something has held; false as soon as it does not. A beginning that is still to come can only be left over
-- from before the clock was set back.
local function since(known_ms, holds)
  known_ms = tonumber(known_ms)
  return holds and math.min(known_ms or now, now)
end

-- Since when a node that vanished with its mitras' sockets is not back: they may be well, and heard by nobody but it.
local lost_ms = false
local all = call('HGETALL', K_CAUTION)
for position = 1, #all, 2 do
  if sub(all[position], 1, 5) == 'lost:' then
    local at = tonumber(all[position + 1])
    if at and at <= now and now - at < release_ms then
      lost_ms = math.min(lost_ms or at, at)
    else
      call('HDEL', K_CAUTION, all[position])
    end
  end
end

local braked_ms, restraint = false, ''
local doubted_ms = since(score[4], listed >= doubted_from and fresh * 2 < listed)
if lost_ms then
  restraint = 'lost'
elseif doubted_ms and now - doubted_ms < release_ms then
  restraint = 'doubt'
else
  if elapsed(began_ms) >= sweep_ms then
    began_ms, room = now_text, math.max(at_least, math.ceil(listed * share_percent / 100))
  end
  braked_ms = since(score[3], silent > room)
  if braked_ms and now - braked_ms < release_ms then
    restraint = 'brake'
  elseif braked_ms then
    room = silent
  end
end

touched = true
local claimed = {}
local takes_nobody = restraint == 'doubt' or restraint == 'lost'
for position = 1, takes_nobody and 0 or #ARGV - OWN_ARGS do
  local id = ARGV[OWN_ARGS + position]
  local heartbeat_key, capacity_key = KEYS[OWN_KEYS + position * 2 - 1], KEYS[OWN_KEYS + position * 2]
  local record = call('HGET', K_MITRAS, id)
  local state, online_epoch, generation, revision, sessions, max_sessions, last_ms
  if record then
    state, online_epoch, generation, revision, sessions, max_sessions, last_ms = record:match(RECORD)
  end

  if state == 'o' then
    local score = tonumber(call('ZSCORE', K_LIVENESS, id))
    if score and score <= until_ms and room > 0 then
      room = room - 1
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

-- Forgotten when nobody sweeps any more.
call('HSET', K_CAUTION, 'began_ms', began_ms or '', 'room', whole(room),
  'braked_ms', braked_ms and whole(braked_ms) or '', 'doubted_ms', doubted_ms and whole(doubted_ms) or '')
call('PEXPIRE', K_CAUTION, whole(10 * sweep_ms + release_ms))

local left = call('ZCOUNT', K_LIVENESS, '-inf', until_ms)
local held_since = restraint == 'lost' and lost_ms or restraint == 'doubt' and doubted_ms or braked_ms
return { pulse(), claimed, left, left > 0 and restraint or '', whole(held_since and now - held_since or 0) }
