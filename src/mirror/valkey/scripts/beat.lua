-- Extends life, never gives it: only an id that is listed, in the go-online the sender means, and only forward.
-- KEYS per beat: heartbeat. ARGV: length of the heartbeat keys' common beginning; per beat: the beginning
-- "o:<online_epoch>:" that its record must have, time in ms.
-- Answers {pulse, refused}; three words per refused id: id, why, online_epoch.
local beats = #KEYS - FIXED_KEYS
if beats == 0 then
  return { pulse(), {} }
end

local id_from = tonumber(ARGV[FIXED_ARGS + 1]) + 1
local ids = {}
for beat = 1, beats do
  ids[beat] = sub(KEYS[FIXED_KEYS + beat], id_from)
end
local records = call('HMGET', K_MITRAS, unpack(ids))
local liveness = call('ZMSCORE', K_LIVENESS, unpack(ids))

local moved, moves, refused = {}, 0, {}
local argument = FIXED_ARGS + 2
for beat = 1, beats do
  local record, wanted, at = records[beat], ARGV[argument], tonumber(ARGV[argument + 1])
  argument = argument + 2
  if at > now then
    at = now
  end
  if record and sub(record, 1, #wanted) == wanted and liveness[beat] then
    local last = tonumber(liveness[beat])
    -- A time to come can only be left over from before the clock was set back.
    if at > last or last > now then
      moved[moves + 1], moved[moves + 2] = at, ids[beat]
      moves = moves + 2
      call('SET', KEYS[FIXED_KEYS + beat], iso(at), 'EX', HEARTBEAT_TTL_S)
    end
  else
    local why, known_epoch = 'unknown', '0'
    if record then
      local state, generation, revision, sessions, max_sessions, last_ms
      state, known_epoch, generation, revision, sessions, max_sessions, last_ms = record:match(RECORD)
      local same_epoch = sub(wanted, 3) == known_epoch .. ':'
      if state == 'f' then
        why = 'offline'
      elseif state == 'd' or state == 'x' then
        why = 'deactivated'
      elseif not same_epoch then
        why = 'other_epoch'
      elseif state == 'c' then
        -- Being taken offline at this moment. Whoever claimed it decides; should it be put back, then with this beat.
        why = nil
        if at > tonumber(last_ms) then
          call('HSET', K_MITRAS, ids[beat], table.concat(
            { 'c', known_epoch, generation, revision, sessions, max_sessions, whole(at) }, ':'))
        end
      end
    end
    if why then
      refused[#refused + 1] = ids[beat]
      refused[#refused + 1] = why
      refused[#refused + 1] = known_epoch
    end
  end
end

if moves > 0 then
  call('ZADD', K_LIVENESS, 'XX', unpack(moved))
  call('ZADD', K_AVAILABLE, 'XX', unpack(moved))
end
return { pulse(), refused }
