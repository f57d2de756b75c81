-- One page of ids of one structure; a reseed asks the truth about each. The sets are walked too, although their members
-- have records: what another program wrote into them must be found.
-- ARGV: which structure, cursor. Answers {next cursor, ids}.
local structure, cursor = ARGV[FIXED_ARGS + 1], ARGV[FIXED_ARGS + 2]
local command, key, step
if structure == '0' then
  command, key, step = 'HSCAN', K_MITRAS, 2
elseif structure == '1' then
  command, key, step = 'SSCAN', K_ONLINE, 1
elseif structure == '2' then
  command, key, step = 'SSCAN', K_DEACTIVATED, 1
elseif structure == '3' then
  command, key, step = 'ZSCAN', K_LIVENESS, 2
else
  command, key, step = 'ZSCAN', K_AVAILABLE, 2
end
local page = call(command, key, cursor, 'COUNT', 500)
local X4 = '[0-9a-f][0-9a-f][0-9a-f][0-9a-f]'
local ID = '^' .. X4 .. X4 .. '%-' .. X4 .. '%-' .. X4 .. '%-' .. X4 .. '%-' .. X4 .. X4 .. X4 .. '$'
local removal = { HSCAN = 'HDEL', SSCAN = 'SREM', ZSCAN = 'ZREM' }
local ids, removed = {}, 0
for position = 1, #page[2], step do
  local id = page[2][position]
  if find(id, ID) then
    ids[#ids + 1] = id
  else
    -- No mitra is called so, and by this spelling nobody would ever ask for it again.
    removed = removed + call(removal[command], key, id)
  end
end
if removed > 0 and epoch then
  call('HSET', K_PUBLISHED, 'sizes', sizes())
end
return { page[1], ids }
