-- Writes this node's record and reads all that are alive. A record that was not taken away but ran out is of a node that died or
-- is cut off; if it held sockets of mitras, caution is told. Unless this node could not report either: then nobody could.
-- A node that is back and has told the mirror of its sockets, which is what `live` means, is no reason for caution any more.
-- KEYS: the nodes' hash, the score of caution. ARGV: node, record, life in ms.
-- Answers two words per live node: ms since it was written, record.
local nodes, caution = KEYS[FIXED_KEYS + 1], KEYS[FIXED_KEYS + 2]
local node, record = ARGV[FIXED_ARGS + 1], ARGV[FIXED_ARGS + 2]
local life_ms = tonumber(ARGV[FIXED_ARGS + 3])
-- From the future only if the clock was set back: that record will be written again, or is of a dead node.
local function is_alive(seen)
  return seen and seen <= life_ms and seen >= -life_ms
end
local function age(value)
  local at, text = value:match('^(%d+):(.*)$')
  return at and now - tonumber(at), text
end

local own = call('HGET', nodes, node)
local was_here = own and is_alive(age(own))
call('HSET', nodes, node, whole(now) .. ':' .. record)
if record:find('"mode":"live"', 1, true) then
  call('HDEL', caution, 'lost:' .. node)
end
local live = {}
local all = call('HGETALL', nodes)
for position = 1, #all, 2 do
  local seen, text = age(all[position + 1])
  if is_alive(seen) then
    live[#live + 1] = whole(math.max(seen, 0))
    live[#live + 1] = text
  else
    if was_here and seen and text:match('"mitra":[1-9]') then
      call('HSET', caution, 'lost:' .. all[position], whole(now))
    end
    call('HDEL', nodes, all[position])
  end
end
return live
