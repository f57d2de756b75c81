-- What is known of each id. ARGV: ids. Answers {now, epoch or '', known}; two words per id: record or '', last heartbeat ms or ''.
local ids = {}
for argument = FIXED_ARGS + 1, #ARGV do
  ids[#ids + 1] = ARGV[argument]
end
if #ids == 0 then
  return { now, epoch or '', {} }
end
local records = call('HMGET', K_MITRAS, unpack(ids))
local liveness = call('ZMSCORE', K_LIVENESS, unpack(ids))
local known = {}
for position, id in ipairs(ids) do
  local record = records[position]
  if not record or not parse(record) then
    local is_known = record
    record = false
    -- Not ours, but another program may have put it where others read: known with the oldest fence there is, so that it
    -- can be forgotten or overwritten.
    local online, deactivated = call('SISMEMBER', K_ONLINE, id) == 1, call('SISMEMBER', K_DEACTIVATED, id) == 1
    if is_known or online or deactivated or liveness[position] or call('ZSCORE', K_AVAILABLE, id) then
      record = (deactivated and (online and 'x' or 'd') or (online and 'o' or 'f')) .. ':0:0:0:0:0'
    end
  end
  known[position * 2 - 1] = record or ''
  known[position * 2] = liveness[position] or ''
end
return { now, epoch or '', known }
