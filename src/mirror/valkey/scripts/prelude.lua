-- Stands before every script (see catalog.rs): the fixed keys and arguments, the clock, and the pulse.
-- A script declares the eleven fixed keys first and its own per-mitra keys after them.

local K_EPOCH, K_PUBLISHED, K_SNAPSHOT, K_HISTORY = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local K_MITRAS, K_CLAIMED = KEYS[5], KEYS[6]
local K_ONLINE, K_DEACTIVATED, K_LIVENESS, K_AVAILABLE = KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local K_STORE = KEYS[11]
local FIXED_KEYS = 11

local suspect_ms, snapshot_ttl_ms, window_ms = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local C_EVENTS, C_CONTROL = ARGV[4], ARGV[5]
-- The identity of the store that this node has, or ''.
local STORE = ARGV[6]
local FIXED_ARGS = 6

local HEARTBEAT_TTL_MS = 86400000
-- As text, like every number that is handed on often: the server writes numbers out at some cost.
local HEARTBEAT_TTL_S = '86400'
local HISTORY_STEP_MS = 10000
local HISTORY_POINTS = 360

local call, floor, format, sub, find = redis.call, math.floor, string.format, string.sub, string.find

-- A mirror belongs to the store that seeded it. Nothing is written to the mirror of another, and nothing read from it.
local owner = redis.pcall('GET', K_STORE)
if owner and (type(owner) == 'table' or #owner ~= 36 or find(owner, '[^%x-]')) then
  -- No identity at all: other programs write what they like.
  call('DEL', K_STORE)
  owner = false
end
if owner and STORE ~= '' and owner ~= STORE then
  return redis.error_reply('FOREIGN ' .. owner)
end

-- Whoever seeds a mirror that is nobody's takes it for its store.
local function take_ownership()
  if not owner and STORE ~= '' then
    call('SET', K_STORE, STORE)
    owner = STORE
  end
end

local clock = call('TIME')
local now = clock[1] * 1000 + floor(clock[2] / 1000)
local now_text = format('%.0f', now)
-- A heartbeat at this time or later is fresh.
local fresh_from = now - suspect_ms

-- Whole numbers beyond 1e14 would otherwise be written in exponent form.
local function whole(number)
  return format('%.0f', number)
end

-- A time of whole seconds up to the decimal point, in RFC 3339 and UTC.
-- Days to civil date: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
local function date_and_time(second)
  local days = floor(second / 86400)
  local z = days + 719468
  local era = floor(z / 146097)
  local doe = z - era * 146097
  local yoe = floor((doe - floor(doe / 1460) + floor(doe / 36524) - floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + floor(yoe / 4) - floor(yoe / 100))
  local mp = floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  local rest = second - days * 86400
  return format('%04d-%02d-%02dT%02d:%02d:%02d.', year, month, doy - floor((153 * mp + 2) / 5) + 1,
    floor(rest / 3600), floor(rest / 60) % 60, rest % 60)
end

-- Milliseconds, as text of at least four digits, in RFC 3339. Seconds are kept: a batch spans few of them.
local seconds = {}
local function iso_of_text(ms_text)
  local second = sub(ms_text, 1, -4)
  local text = seconds[second]
  if not text then
    text = date_and_time(tonumber(second))
    seconds[second] = text
  end
  return text .. sub(ms_text, -3) .. 'Z'
end

local function iso(ms)
  return iso_of_text(format('%04.0f', ms))
end

-- A record of K_MITRAS: state:online_epoch:generation:revision:sessions:max_sessions[:last_ms]
-- state: o listed, f offline, d deactivated, x deactivated though still online, c claimed as silent (then last_ms).
local RECORD = '^(%a):(%d+):(%d+):(%d+):(%d+):(%d+):?(%d*)$'

-- Compares whole numbers of up to 19 digits, which are not exact as Lua numbers.
local function digits_less(a, b)
  if #a ~= #b then
    return #a < #b
  end
  return a < b
end

-- Whether fence (generation, revision) a is older than b.
local function older(generation_a, revision_a, generation_b, revision_b)
  if generation_a ~= generation_b then
    return digits_less(generation_a, generation_b)
  end
  return digits_less(revision_a, revision_b)
end

-- Whether a text is a whole number that fits what reads it: an i64, or `digits` digits.
local function fits(text, digits)
  if digits then
    return #text <= digits
  end
  return #text < 19 or (#text == 19 and not digits_less('9223372036854775807', text))
end

-- Generations are small, or milliseconds since 1970 at the store. Clocks may differ by this much.
local GENERATION_AHEAD_MS = 600000

-- The parts of a record, or nothing when no node can have written it: other programs write what they like.
local function parse(record)
  local state, online_epoch, generation, revision, sessions, max_sessions, last_ms = record:match(RECORD)
  if state and find('ofdxc', state, 1, true) and fits(online_epoch) and fits(generation) and fits(revision)
    and fits(sessions, 9) and fits(max_sessions, 9) and fits(last_ms, 15) then
    return state, online_epoch, generation, revision, sessions, max_sessions, last_ms
  end
end

-- Whether a known generation can be no store's: newer than the store's own, and than any that could be given now.
local function is_absurd(known_generation, own_generation)
  return digits_less(own_generation, known_generation)
    and digits_less(format('%.0f', now + GENERATION_AHEAD_MS), known_generation)
end

local TYPES = { 'string', 'hash', 'string', 'list', 'hash', 'zset', 'set', 'set', 'zset', 'zset', 'string' }

-- Deletes the fixed keys that are of another type than theirs. Answers whether the mirror has to be rebuilt for it.
local function delete_wrong_types()
  local rebuild = false
  for position, wanted in ipairs(TYPES) do
    local found = call('TYPE', KEYS[position]).ok
    if found ~= wanted and found ~= 'none' then
      call('DEL', KEYS[position])
      -- Frame and history are written anew as they are.
      rebuild = rebuild or (position ~= 3 and position ~= 4)
    end
  end
  return rebuild
end

-- Members of the structures; they change only in these scripts, so another number than the last one written down
-- means that the server evicted a key or that somebody else wrote to it.
local function sizes()
  return call('HLEN', K_MITRAS) .. '/' .. call('SCARD', K_ONLINE) .. '/' .. call('SCARD', K_DEACTIVATED) .. '/'
    .. call('ZCARD', K_LIVENESS) .. '/' .. call('ZCARD', K_AVAILABLE)
end

local function read_state()
  return call('GET', K_EPOCH),
    call('HMGET', K_PUBLISHED, 'version', 'available', 'published_ms', 'written_ms', 'history_ms', 'sizes'), sizes()
end

local readable, epoch, published, members = pcall(read_state)
if not readable then
  if delete_wrong_types() then
    call('DEL', K_EPOCH, K_PUBLISHED)
  end
  epoch, published, members = read_state()
end
if epoch and (published[6] ~= members or (STORE ~= '' and not owner)) then
  -- No longer what was seeded: say so, in the way an emptied mirror does.
  call('DEL', K_EPOCH, K_PUBLISHED)
  epoch = false
end

-- A script that changes members says so, that their sizes are written down anew.
local touched = false

local function elapsed(since)
  -- Never, or a clock that was set back: long ago. Otherwise a step back would freeze whatever waits for it.
  since = tonumber(since)
  if not since or since > now then
    return math.huge
  end
  return now - since
end

local function snapshot_json(version, available)
  return '{"type":"availability","epoch":"' .. epoch .. '","version":' .. whole(version)
    .. ',"any":' .. (available > 0 and 'true' or 'false') .. ',"available":' .. whole(available)
    .. ',"as_of":"' .. iso(now) .. '","source":"valkey","stale":false}'
end

-- Counts, and publishes when that is due. Every node's every call ends here and the work is done once, whoever comes
-- first. Answers {now, epoch or '', version, available, as_of, due in ms or -1}.
local function pulse()
  if not epoch then
    return { now, '', 0, 0, 0, -1 }
  end
  local version, shown = tonumber(published[1]), tonumber(published[2])
  local available = call('ZCOUNT', K_AVAILABLE, fresh_from, '+inf')
  local as_of, due = now, -1
  local members = touched and sizes() or published[6]
  local news = { 'sizes', members }

  if available ~= shown then
    local flipped = not shown or (available > 0) ~= (shown > 0)
    local waited = elapsed(published[3])
    if flipped or waited >= window_ms then
      version, shown = version + 1, available
      local json = snapshot_json(version, available)
      call('SET', K_SNAPSHOT, json, 'PX', snapshot_ttl_ms)
      call('PUBLISH', C_EVENTS, json)
      news = { 'sizes', members, 'version', whole(version), 'available', whole(available),
        'published_ms', whole(now), 'written_ms', whole(now) }
    else
      as_of, due = tonumber(published[4]), window_ms - waited
    end
  elseif elapsed(published[4]) >= snapshot_ttl_ms / 3 then
    call('SET', K_SNAPSHOT, snapshot_json(version, available), 'PX', snapshot_ttl_ms)
    news[#news + 1] = 'written_ms'
    news[#news + 1] = whole(now)
  end

  if elapsed(published[5]) >= HISTORY_STEP_MS then
    call('RPUSH', K_HISTORY, '{"at":"' .. iso(now) .. '","online":' .. call('SCARD', K_ONLINE)
      .. ',"available":' .. whole(available) .. '}')
    call('LTRIM', K_HISTORY, -HISTORY_POINTS, -1)
    news[#news + 1] = 'history_ms'
    news[#news + 1] = whole(now)
  end

  if #news > 2 or members ~= published[6] then
    call('HSET', K_PUBLISHED, unpack(news))
  end
  return { now, epoch, version, shown, as_of, due }
end

