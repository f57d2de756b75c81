-- Those who have been silent for at least `silent_ms`, up to `limit` of them, drawn at random and in random order; before
-- them those whose claim was abandoned (its node died, or the answer was lost). Changes nothing.
-- ARGV: silent_ms, limit, random number. Answers {total silent, ids}.
local until_ms = now - tonumber(ARGV[FIXED_ARGS + 1])
local limit, random = tonumber(ARGV[FIXED_ARGS + 2]), tonumber(ARGV[FIXED_ARGS + 3])
local total = call('ZCOUNT', K_LIVENESS, '-inf', until_ms)
if limit == 0 then
  return { total, {} }
end

local ids = call('ZRANGEBYSCORE', K_CLAIMED, '-inf', fresh_from, 'LIMIT', 0, limit)
local wanted = math.min(limit - #ids, total)
-- Sorted by heartbeat, so the silent ones are the first `total`. Distinct ranks of them: the first steps of a shuffle
-- (Fisher and Yates) of which only what was moved is written down.
math.randomseed(random % 2147483647)
local moved = {}
for step = 0, wanted - 1 do
  local drawn = math.random(step, total - 1)
  local rank = moved[drawn] or drawn
  moved[drawn] = moved[step] or step
  ids[#ids + 1] = call('ZRANGE', K_LIVENESS, rank, rank)[1]
end
return { total, ids }
