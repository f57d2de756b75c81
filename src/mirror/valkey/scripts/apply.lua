-- Compares each row with what is known, by fence, and applies it: older never wins, equal is compared and repaired.
-- KEYS per row: heartbeat, capacity. ARGV per row: id, record, time of the heartbeat in ms or '', announcement or ''. A time and no
-- age: what was frozen on its way refreshes nobody when it thaws.
-- Answers {pulse, outcomes}; an outcome is 'changed', 'same' or 'generation:revision' of what is newer.
local ROW_ARGS = 4
local rows = (#KEYS - FIXED_KEYS) / 2
if rows == 0 then
  return { pulse(), {} }
end
touched = true
take_ownership()

local ids = {}
for row = 1, rows do
  ids[row] = ARGV[FIXED_ARGS + (row - 1) * ROW_ARGS + 1]
end
local records = call('HMGET', K_MITRAS, unpack(ids))
local was_online = call('SMISMEMBER', K_ONLINE, unpack(ids))
local was_deactivated = call('SMISMEMBER', K_DEACTIVATED, unpack(ids))
local liveness = call('ZMSCORE', K_LIVENESS, unpack(ids))
local availability = call('ZMSCORE', K_AVAILABLE, unpack(ids))
local values = call('MGET', unpack(KEYS, FIXED_KEYS + 1))

-- Writes are gathered, so that a batch costs one call per command and structure.
local gathered = {}
local function gather(command, key)
  local name = command .. ' ' .. key
  local arguments = gathered[name]
  if not arguments then
    arguments = key == '' and { command } or { command, key }
    gathered[name] = arguments
    gathered[#gathered + 1] = arguments
  end
  return arguments
end
local function add(command, key, first, second)
  local arguments = gather(command, key)
  arguments[#arguments + 1] = first
  arguments[#arguments + 1] = second
end

local outcomes = {}
for row = 1, rows do
  local first = FIXED_ARGS + (row - 1) * ROW_ARGS
  local id, new_record, beat_ms, announcement = ids[row], ARGV[first + 2], tonumber(ARGV[first + 3]), ARGV[first + 4]
  local heartbeat_key, capacity_key = KEYS[FIXED_KEYS + row * 2 - 1], KEYS[FIXED_KEYS + row * 2]
  local state, online_epoch, generation, revision, sessions, max_sessions = new_record:match(RECORD)

  local record = records[row]
  local known_state, known_epoch, known_generation, known_revision, last_ms
  if record == new_record then
    known_state, known_epoch, known_generation, known_revision = state, online_epoch, generation, revision
  elseif record then
    local _
    known_state, known_epoch, known_generation, known_revision, _, _, last_ms = parse(record)
    if known_state and is_absurd(known_generation, generation) then
      known_state, known_epoch, last_ms = nil, nil, nil
    end
  end

  if known_state and older(generation, revision, known_generation, known_revision) then
    outcomes[row] = known_generation .. ':' .. known_revision
  else
    local listed = state == 'o'
    local online, active = listed or state == 'x', listed or state == 'f'
    local has_room = listed and tonumber(sessions) < tonumber(max_sessions)
    local capacity = (online or sessions ~= '0') and sessions or false
    local had_heartbeat, had_capacity = values[row * 2 - 1], values[row * 2]

    local online_differs = (was_online[row] == 1) ~= online
    local active_differs = (was_deactivated[row] == 1) == active
    local capacity_differs = had_capacity ~= capacity
    local changed = record ~= new_record or online_differs or active_differs or capacity_differs
      or (liveness[row] and true or false) ~= listed or (availability[row] and true or false) ~= has_room
      or (had_heartbeat and true or false) ~= listed

    if listed then
      -- Only forward within one go-online; a new one starts afresh.
      local score = known_epoch == online_epoch and (tonumber(liveness[row]) or tonumber(last_ms)) or nil
      if beat_ms and (not score or beat_ms > score) then
        score = beat_ms
      end
      -- Nobody vouches for a heartbeat: at the edge of suspicion.
      score = math.min(score or fresh_from - 1, now)
      if tonumber(liveness[row]) ~= score then
        add('ZADD', K_LIVENESS, score, id)
      end
      local beat_at = iso(score)
      if had_heartbeat ~= beat_at then
        call('SETEX', heartbeat_key, HEARTBEAT_TTL_S, beat_at)
      end
      if has_room then
        if tonumber(availability[row]) ~= score then
          add('ZADD', K_AVAILABLE, score, id)
        end
      elseif availability[row] then
        add('ZREM', K_AVAILABLE, id)
      end
    elseif changed then
      add('ZREM', K_LIVENESS, id)
      add('ZREM', K_AVAILABLE, id)
      add('DEL', '', heartbeat_key)
    end

    if changed then
      add('HSET', K_MITRAS, id, new_record)
      if online_differs then
        add(online and 'SADD' or 'SREM', K_ONLINE, id)
      end
      if active_differs then
        add(active and 'SREM' or 'SADD', K_DEACTIVATED, id)
      end
      if not capacity then
        -- Also one that reads as none, being of another type.
        add('DEL', '', capacity_key)
      elseif capacity_differs then
        add('MSET', '', capacity_key, capacity)
      end
      if known_state == 'c' then
        add('ZREM', K_CLAIMED, id)
      end
      if announcement ~= '' then
        call('PUBLISH', C_CONTROL, announcement)
      end
    end
    outcomes[row] = changed and 'changed' or 'same'
  end
end

for _, arguments in ipairs(gathered) do
  call(unpack(arguments))
end
return { pulse(), outcomes }
