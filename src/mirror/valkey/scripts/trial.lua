-- Writes a key of its own, reads it and removes it: what a server that is full, a replica or unable to save refuses.
-- KEYS: that key. Answers what the server says about itself and its memory, or empty text where this user may not ask.
redis.call('SET', KEYS[1], 'trial', 'PX', 10000)
local read = redis.call('GET', KEYS[1])
redis.call('DEL', KEYS[1])
local function info(section)
  local said = redis.pcall('INFO', section)
  return type(said) == 'string' and said or ''
end
return { read, info('server'), info('memory') }
