-- Those who have been silent for at least `silent_ms`, up to `limit` of them from a random one on; before them those
-- whose claim was abandoned (its node died, or the answer was lost). Changes nothing.
-- ARGV: silent_ms, limit, random number. Answers {total silent, ids}.
local until_ms = now - tonumber(ARGV[FIXED_ARGS + 1])
local limit, random = tonumber(ARGV[FIXED_ARGS + 2]), tonumber(ARGV[FIXED_ARGS + 3])
local total = call('ZCOUNT', K_LIVENESS, '-inf', until_ms)
if limit == 0 then
  return { total, {} }
end

local ids = call('ZRANGEBYSCORE', K_CLAIMED, '-inf', fresh_from, 'LIMIT', 0, limit)
local wanted = math.min(limit - #ids, total)
if wanted > 0 then
  -- Sorted by heartbeat, so the silent ones are the first `total`.
  local start = random % total
  local until_end = math.min(wanted, total - start)
  for _, id in ipairs(call('ZRANGE', K_LIVENESS, start, start + until_end - 1)) do
    ids[#ids + 1] = id
  end
  if wanted > until_end then
    for _, id in ipairs(call('ZRANGE', K_LIVENESS, 0, wanted - until_end - 1)) do
      ids[#ids + 1] = id
    end
  end
end
return { total, ids }
