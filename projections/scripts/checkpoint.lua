-- Raises checkpoints, if Redis still has all that it has acknowledged: else nothing is written.
--
-- KEYS   the checkpoint hash
-- ARGV   highest row version or "", then n times: field, what it must have at least, what it is
--        raised to or ""; a lower offset than the stored one changes nothing
-- reply  the fields that have less than they must

if #ARGV % 3 ~= 1 then
  return redis.error_reply('ERR checkpoint.lua: an offset is missing')
end
if not string.find(ARGV[1], '^%d*$') then
  return redis.error_reply('ERR checkpoint.lua: malformed version')
end
for i = 2, #ARGV, 3 do
  if not string.find(ARGV[i + 1], '^%d+$') or not string.find(ARGV[i + 2], '^%d*$') then
    return redis.error_reply('ERR checkpoint.lua: malformed offset of ' .. ARGV[i])
  end
end

local stored, lost = {}, {}
for i = 2, #ARGV, 3 do
  stored[i] = tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or 0)
  if stored[i] < tonumber(ARGV[i + 1]) then
    lost[#lost + 1] = ARGV[i]
  end
end
if #lost > 0 then
  return lost
end

for i = 2, #ARGV, 3 do
  if ARGV[i + 2] ~= '' and tonumber(ARGV[i + 2]) > stored[i] then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
  end
end
-- As text, as in apply.lua: Lua's numbers are exact only to 2^53.
local version = redis.call('HGET', KEYS[1], ':version') or ''
if #ARGV[1] > #version or (#ARGV[1] == #version and ARGV[1] > version) then
  redis.call('HSET', KEYS[1], ':version', ARGV[1])
end
return lost
