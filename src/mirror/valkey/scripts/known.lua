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
local ids = {}
for position = 1, #page[2], step do
  ids[#ids + 1] = page[2][position]
end
return { page[1], ids }
