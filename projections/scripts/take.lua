-- Takes the record of a rebuild, to go on with it or to begin it anew, unless somebody else has taken
-- it since it was read.
--
-- KEYS   the progress of the rebuild
-- ARGV   JSON: {"owner": who takes it, "seen": whose it was when it was read, "" for none (without it,
--        it is taken from anybody), "fields": {name: text} to begin it anew with}
-- reply  1, or 0 if it is another's by now

local asked = cjson.decode(ARGV[1])
local owner = redis.call('HGET', KEYS[1], 'owner') or ''
if asked.seen and owner ~= asked.seen then
  return 0
end
if asked.fields then
  redis.call('DEL', KEYS[1])
  for name, text in pairs(asked.fields) do
    redis.call('HSET', KEYS[1], name, text)
  end
end
redis.call('HSET', KEYS[1], 'owner', asked.owner)
return 1
