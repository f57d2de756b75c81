-- Extends life, never gives it: only an id that is listed, in the go-online the sender means, and only forward.
-- KEYS per beat: heartbeat. ARGV: the newest time of all; per beat the beginning "o:<online_epoch>:" that its record must have;
-- then per beat time in ms and id.
-- Answers {pulse, refused}; three words per refused id: id, why, online_epoch.
--
-- This is the script that runs most. It handles numbers as text wherever it can, because reading and writing them costs
-- more than comparing them, hands arguments on as they came where all is well, and looks at the scores only when it must.
local beats = #KEYS - FIXED_KEYS
if beats == 0 then
  return { pulse(), {} }
end

local newest = ARGV[FIXED_ARGS + 1]
local WANTED = FIXED_ARGS + 1
local MOVES = WANTED + beats
local ids = {}
for beat = 1, beats do
  ids[beat] = ARGV[MOVES + beat * 2]
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

-- Whether the record of a beat is listed, in the go-online that its sender means.
local function is_listed(beat)
  local record = records[beat]
  return record and find(record, ARGV[WANTED + beat], 1, true) == 1
end

local listed = 0
for beat = 1, beats do
  if is_listed(beat) then
    listed = listed + 1
  end
end

-- Score and id of each accepted beat in turn, and the heartbeat key of each, from behind these places on.
local moves, moves_from, keys, keys_from, accepted = ARGV, MOVES, KEYS, FIXED_KEYS, beats
if listed < beats or digits_less(now_text, newest) then
  moves, moves_from, keys, keys_from, accepted = {}, 0, {}, 0, 0
  for beat = 1, beats do
    local at = ARGV[MOVES + beat * 2 - 1]
    if digits_less(now_text, at) then
      at = now_text
    end
    if is_listed(beat) then
      accepted = accepted + 1
      moves[accepted * 2 - 1], moves[accepted * 2], keys[accepted] = at, ids[beat], KEYS[FIXED_KEYS + beat]
    else
      decline(ids[beat], records[beat], ARGV[WANTED + beat], at)
    end
  end
end

-- With the time at which it expires, and not how long it lives: the server would turn the one into the other, key by key.
local expires = whole(now + HEARTBEAT_TTL_MS)
local function write_heartbeat(beat, text)
  call('SET', keys[keys_from + beat], text, 'PXAT', expires)
end

if accepted > 0 then
  local last = moves_from + accepted * 2
  local moved = call('ZADD', K_LIVENESS, 'XX', 'GT', 'CH', unpack(moves, moves_from + 1, last))
  call('ZADD', K_AVAILABLE, 'XX', 'GT', unpack(moves, moves_from + 1, last))
  if moved == accepted then
    for beat = 1, accepted do
      write_heartbeat(beat, iso_of_text(moves[moves_from + beat * 2 - 1]))
    end
  else
    -- Some were older than what is known, or repeated: the heartbeat keys follow the scores.
    for beat = 1, accepted do
      local at, id = moves[moves_from + beat * 2 - 1], moves[moves_from + beat * 2]
      local score = call('ZSCORE', K_LIVENESS, id)
      if not score then
        -- Somebody else took it out of the index; whoever asked the truth can repair it.
        refuse(id, 'unknown', call('HGET', K_MITRAS, id):match('^%a:(%d+)'))
      else
        -- A time to come can only be left over from before the clock was set back.
        if tonumber(score) > now then
          score = at
          call('ZADD', K_LIVENESS, 'XX', at, id)
          call('ZADD', K_AVAILABLE, 'XX', at, id)
        end
        write_heartbeat(beat, iso(tonumber(score)))
      end
    end
  end
end
return { pulse(), refused }
