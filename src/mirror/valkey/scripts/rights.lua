-- Which of the rights that a node needs the user of this connection lacks. Runs and changes nothing.
-- KEYS: none, or one that only says which server of a cluster is asked.
-- ARGV: four lists, each its length and then its words: commands of a key, written as words with % for the key; keys;
-- other commands, written as words; channels.
-- Answers lists of the refused: commands, keys, channels to publish to, channels to subscribe to. Or nothing at all, where
-- the server cannot tell (Redis before 7).
local may = redis.acl_check_cmd
if not may then
  return {}
end

local position = 1
local function list()
  local last = position + tonumber(ARGV[position])
  local words = {}
  for at = position + 1, last do
    words[#words + 1] = ARGV[at]
  end
  position = last + 1
  return words
end

local function allowed(text, key)
  local words = {}
  for word in text:gmatch('%S+') do
    words[#words + 1] = word == '%' and key or word
  end
  return may(unpack(words))
end

local commands, keys, others, channels = list(), list(), list(), list()

-- A command is refused by itself, or for its key: the key that takes the most commands tells them apart.
local refused_at, best = {}, nil
for at, key in ipairs(keys) do
  local refused = {}
  for _, command in ipairs(commands) do
    if not allowed(command, key) then
      refused[#refused + 1] = command:match('^%S+')
    end
  end
  refused_at[at] = refused
  if not best or #refused < #best then
    best = refused
  end
end

local refused_commands, refused_keys = best, {}
for at, key in ipairs(keys) do
  if #refused_at[at] > #best then
    refused_keys[#refused_keys + 1] = key
  end
end
for _, command in ipairs(others) do
  if not allowed(command) then
    refused_commands[#refused_commands + 1] = command:match('^%u+ ?%u*')
  end
end

local function refused_channels(command)
  local refused = {}
  for _, channel in ipairs(channels) do
    if not may(unpack(command == 'PUBLISH' and { command, channel, 'x' } or { command, channel })) then
      refused[#refused + 1] = channel
    end
  end
  return refused
end

return { refused_commands, refused_keys, refused_channels('PUBLISH'), refused_channels('SUBSCRIBE') }
