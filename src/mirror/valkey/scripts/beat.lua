-- Extends life, never gives it: only an id that is listed, in the go-online the sender means, and only forward.
-- KEYS per beat: heartbeat. ARGV: length of the heartbeat keys' common beginning; per beat: the beginning
-- "o:<online_epoch>:" that its record must have, time in ms.
-- Answers {pulse, refused}; three words per refused id: id, why, online_epoch.
--
-- This is the script that runs most. It handles numbers as text wherever it can, because reading and writing them costs
-- more than comparing them, and looks at the scores only when it must.
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

local refused = {}
local function refuse(id, why, known_epoch)
  local last = #refused
  refused[last + 1], refused[last + 2], refused[last + 3] = id, why, known_epoch
end

-- A beat that may not be applied as it is: says why, or remembers it for a mitra that is being taken offline.
local function decline(id, record, wanted, at)
  if not record then
    return refuse(id, 'unknown', '0')
  end
  local state, known_epoch, generation, revision, sessions, max_sessions, last_ms = record:match(RECORD)
  if not state then
    -- Not of this version, or somebody else's: whoever asked the truth can write it anew.
    refuse(id, 'unknown', '0')
  elseif state == 'f' then
    refuse(id, 'offline', known_epoch)
  elseif state == 'd' or state == 'x' then
    refuse(id, 'deactivated', known_epoch)
  elseif sub(wanted, 3) ~= known_epoch .. ':' then
    refuse(id, 'other_epoch', known_epoch)
  elseif digits_less(last_ms, at) then
    -- Whoever claimed it as silent decides; should it be put back, then with this beat.
    call('HSET', K_MITRAS, id, table.concat({ 'c', known_epoch, generation, revision, sessions, max_sessions, at }, ':'))
  end
end

-- Score and id of each accepted beat in turn, and the heartbeat key of each.
local moves, keys, accepted = {}, {}, 0
local argument = FIXED_ARGS + 2
for beat = 1, beats do
  local record, wanted, at = records[beat], ARGV[argument], ARGV[argument + 1]
  argument = argument + 2
  if digits_less(now_text, at) then
    at = now_text
  end
  if record and sub(record, 1, #wanted) == wanted then
    accepted = accepted + 1
    moves[accepted * 2 - 1], moves[accepted * 2], keys[accepted] = at, ids[beat], KEYS[FIXED_KEYS + beat]
  else
    decline(ids[beat], record, wanted, at)
  end
end

if accepted > 0 then
  local moved = call('ZADD', K_LIVENESS, 'XX', 'GT', 'CH', unpack(moves))
  call('ZADD', K_AVAILABLE, 'XX', 'GT', unpack(moves))
  if moved == accepted then
    for beat = 1, accepted do
      call('SETEX', keys[beat], HEARTBEAT_TTL_S, iso_of_text(moves[beat * 2 - 1]))
    end
  else
    -- Some were older than what is known, or repeated: the heartbeat keys follow the scores.
    for beat = 1, accepted do
      local at, id = moves[beat * 2 - 1], moves[beat * 2]
      local score = call('ZSCORE', K_LIVENESS, id)
      if not score then
        -- Somebody else took it out of the index; whoever asked the truth can repair it.
        refuse(id, 'unknown', records[beat] and records[beat]:match('^%a:(%d+)') or '0')
      else
        -- A time to come can only be left over from before the clock was set back.
        if tonumber(score) > now then
          score = at
          call('ZADD', K_LIVENESS, 'XX', at, id)
          call('ZADD', K_AVAILABLE, 'XX', at, id)
        end
        call('SETEX', keys[beat], HEARTBEAT_TTL_S, iso(tonumber(score)))
      end
    end
  end
end
return { pulse(), refused }
