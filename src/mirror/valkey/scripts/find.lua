-- Up to `limit` of those available now, beginning at a random one and going round.
-- ARGV: limit, random number. Answers {pulse, total, found}; three words per found id: id, last heartbeat ms, record.
local limit, random = tonumber(ARGV[FIXED_ARGS + 1]), tonumber(ARGV[FIXED_ARGS + 2])
local members = call('ZCARD', K_AVAILABLE)
local total = call('ZCOUNT', K_AVAILABLE, fresh_from, '+inf')
local wanted = math.min(limit, total)
if wanted == 0 then
  return { pulse(), total, {} }
end

-- Sorted by heartbeat, so the fresh ones are the last `total`.
local first_fresh = members - total
local start = random % total
local until_end = math.min(wanted, total - start)
local ids, scores = {}, {}
local function take(from, count)
  local page = call('ZRANGE', K_AVAILABLE, first_fresh + from, first_fresh + from + count - 1, 'WITHSCORES')
  for position = 1, #page, 2 do
    ids[#ids + 1] = page[position]
    scores[#scores + 1] = page[position + 1]
  end
end
take(start, until_end)
if wanted > until_end then
  take(0, wanted - until_end)
end

local records = call('HMGET', K_MITRAS, unpack(ids))
local found = {}
for position = 1, #ids do
  if records[position] then
    found[#found + 1] = ids[position]
    found[#found + 1] = scores[position]
    found[#found + 1] = records[position]
  end
end
return { pulse(), total, found }
