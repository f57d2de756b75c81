-- One page of the listed without a fresh heartbeat, the oldest silence first and then by id.
-- ARGV: limit, last heartbeat ms and id of the last one seen (both empty: from the beginning).
-- Answers {pulse, found}; two words per found id: id, last heartbeat ms.
local limit = tonumber(ARGV[FIXED_ARGS + 1])
local after_ms, after_id = ARGV[FIXED_ARGS + 2], ARGV[FIXED_ARGS + 3]
local suspects = call('ZCOUNT', K_LIVENESS, '-inf', '(' .. whole(fresh_from))

-- Sorted by heartbeat and then by id: suspects are the first ranks, and the page begins behind the one last seen. Whole
-- fleets may share one heartbeat, so its rank is found by halving.
local rank = 0
if after_ms ~= '' then
  rank = call('ZCOUNT', K_LIVENESS, '-inf', '(' .. after_ms)
  local high = rank + call('ZCOUNT', K_LIVENESS, after_ms, after_ms)
  while rank < high do
    local middle = floor((rank + high) / 2)
    if call('ZRANGE', K_LIVENESS, middle, middle)[1] > after_id then
      high = middle
    else
      rank = middle + 1
    end
  end
end

local found = {}
while #found < limit * 2 and rank < suspects do
  local last = math.min(suspects, rank + limit - #found / 2) - 1
  local page = call('ZRANGE', K_LIVENESS, rank, last, 'WITHSCORES')
  for position = 1, #page, 2 do
    -- Another program may have put words here that are no ids: they take no place of the page.
    if #page[position] == 36 then
      found[#found + 1] = page[position]
      found[#found + 1] = page[position + 1]
    end
  end
  rank = last + 1
end
return { pulse(), found }
