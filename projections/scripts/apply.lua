-- Writes changed rows, each only if its version is higher than the stored one.
--
-- KEYS   the stock hash of each SKU
-- ARGV   JSON, per SKU: [partition, field, row, field, row, …], a row being "<version> …", its
--        field a warehouse or ":override:<channel>"; a partition of "" leaves the one stored
-- reply  per SKU: its whole stock hash after the write, as HGETALL gives it

-- Versions are compared as text: Lua's numbers are exact only to 2^53.
local function newer(version, stored)
  if #version ~= #stored then
    return #version > #stored
  end
  return version > stored
end

-- A script is not rolled back: look at every argument before the first write.
local changes = cjson.decode(ARGV[1])
if #changes ~= #KEYS then
  return redis.error_reply('ERR apply.lua: changes and keys differ in number')
end
for i, rows in ipairs(changes) do
  if not rows[1] or not string.find(rows[1], '^%d*$') then
    return redis.error_reply('ERR apply.lua: malformed partition for key ' .. i)
  end
  for j = 2, #rows, 2 do
    local field, row = rows[j], rows[j + 1]
    if not row or not string.find(row, '^%d+ ')
      or not (string.find(field, '^[^:]') or string.find(field, '^:override:.')) then
      return redis.error_reply('ERR apply.lua: malformed row for key ' .. i)
    end
  end
end

local reply = {}
for i, key in ipairs(KEYS) do
  local rows = changes[i]
  local changed = {}
  for j = 2, #rows, 2 do
    local field, row = rows[j], rows[j + 1]
    local stored = redis.call('HGET', key, field)
    if not stored or newer(string.match(row, '^%d+'), string.match(stored, '^%d+')) then
      changed[#changed + 1] = field
      changed[#changed + 1] = row
    end
  end
  if #changed > 0 then
    if rows[1] ~= '' then
      changed[#changed + 1] = ':partition'
      changed[#changed + 1] = rows[1]
    end
    redis.call('HSET', key, unpack(changed))
    redis.call('HINCRBY', key, ':revision', 1)
  end
  reply[i] = redis.call('HGETALL', key)
end
return reply
