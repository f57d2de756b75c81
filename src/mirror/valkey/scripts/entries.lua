-- What is known of each id. ARGV: ids. Answers {now, known}; two words per id: record or '', last heartbeat ms or ''.
local ids = {}
for argument = FIXED_ARGS + 1, #ARGV do
  ids[#ids + 1] = ARGV[argument]
end
if #ids == 0 then
  return { now, {} }
end
local records = call('HMGET', K_MITRAS, unpack(ids))
local liveness = call('ZMSCORE', K_LIVENESS, unpack(ids))
local known = {}
for position = 1, #ids do
  known[#known + 1] = records[position] or ''
  known[#known + 1] = liveness[position] or ''
end
return { now, known }
