-- Raises checkpoints; a lower offset than the stored one changes nothing.
--
-- KEYS   the checkpoint hash
-- ARGV   n times: "<topic>/<partition>", next offset

if #ARGV % 2 == 1 then
  return redis.error_reply('ERR checkpoint.lua: an offset is missing')
end
for i = 2, #ARGV, 2 do
  if not tonumber(ARGV[i]) then
    return redis.error_reply('ERR checkpoint.lua: malformed offset of ' .. ARGV[i - 1])
  end
end

for i = 1, #ARGV, 2 do
  local stored = redis.call('HGET', KEYS[1], ARGV[i])
  if not stored or tonumber(ARGV[i + 1]) > tonumber(stored) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
return redis.status_reply('OK')
