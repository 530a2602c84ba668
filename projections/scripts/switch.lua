-- Swaps two databases, if the shadow has everything that the live one has.
--
-- KEYS   the live database's checkpoint and marks, then the other keys that must stay where readers
--        and workers look for them
-- ARGV   live database, shadow database, the marks as they were as JSON, then n times:
--        "<topic>/<partition>", next offset of the shadow
-- reply  'switched', 'behind' or 'marks'

local live, shadow = ARGV[1], ARGV[2]
local marks = cjson.decode(ARGV[3])
local offsets = {}
for i = 4, #ARGV, 2 do
  if not tonumber(ARGV[i + 1]) then
    return redis.error_reply('ERR switch.lua: malformed offset of ' .. ARGV[i])
  end
  offsets[ARGV[i]] = tonumber(ARGV[i + 1])
end

local stored = redis.call('HGETALL', KEYS[1])
if #stored == 0 then
  return 'behind'
end
for i = 1, #stored, 2 do
  -- Fields that begin with a colon are not offsets.
  if string.sub(stored[i], 1, 1) ~= ':'
    and (offsets[stored[i]] or 0) < tonumber(stored[i + 1]) then
    return 'behind'
  end
end
local told = redis.call('HGETALL', KEYS[2])
local found = 0
for i = 1, #told, 2 do
  if marks[told[i]] ~= told[i + 1] then
    return 'marks'
  end
  found = found + 1
end
for _ in pairs(marks) do
  found = found - 1
end
if found ~= 0 then
  return 'marks'
end

for _, key in ipairs(KEYS) do
  redis.call('COPY', key, key, 'DB', shadow, 'REPLACE')
end
redis.call('SWAPDB', live, shadow)
return 'switched'
