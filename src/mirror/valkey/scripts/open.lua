-- Declares the mirror seeded: from here on it is believed, counted and published. ARGV: the epoch to set if there is
-- none, or if it is of another server; how many mitras were seeded. Answers the pulse, without an epoch when fewer are known:
-- it was emptied meanwhile.
if not epoch and call('HLEN', K_MITRAS) < tonumber(ARGV[FIXED_ARGS + 2]) then
  return pulse()
end
take_ownership()

-- A replica that was promoted carries its primary's epoch, and may lack the last versions that were published in it:
-- numbers would be given out twice. So an epoch belongs to the server that began it, known by the identity it gave
-- itself at its start. Whoever may not read that (ACL) has no such guard.
local info = redis.pcall('INFO', 'server')
local server = type(info) == 'string' and info:match('run_id:(%x+)') or ''

if not epoch or call('HGET', K_PUBLISHED, 'server') ~= server then
  epoch = ARGV[FIXED_ARGS + 1]
  call('SET', K_EPOCH, epoch)
  call('DEL', K_PUBLISHED)
  published = { '0', false, false, false, published[5], sizes() }
  call('HSET', K_PUBLISHED, 'version', 0, 'sizes', published[6], 'server', server)
  if published[5] then
    call('HSET', K_PUBLISHED, 'history_ms', published[5])
  end
end
return pulse()
