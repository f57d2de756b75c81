-- The pulse, and before it the types of all keys: a node asks for it each half second, whatever its mode.
-- KEYS: the score of caution, the nodes' hash.
if delete_wrong_types() then
  call('DEL', K_EPOCH, K_PUBLISHED)
  epoch = false
end
for position = FIXED_KEYS + 1, #KEYS do
  local found = call('TYPE', KEYS[position]).ok
  if found ~= 'hash' and found ~= 'none' then
    call('DEL', KEYS[position])
  end
end
return pulse()
