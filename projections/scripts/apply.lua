-- Writes changed rows, each only if its version is higher than the stored one.
--
-- KEYS   the stock hash of each SKU
-- ARGV   JSON, per SKU: [partition, repair, replaced, field, row, field, row, …], a row being
--        "<version> …", its field a warehouse or ":override:<channel>"; a partition of "" leaves the
--        one stored; a repair of "1" writes rows of the stored version too, and counts as a change
--        always; replaced is "" or {field: version}: a row that is stored in just that version is
--        overwritten by a lower one too
--        "quiet", if nobody wants to know the state
-- reply  per SKU: its whole stock hash after the write, as HGETALL gives it; none if quiet

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
  if not rows[2] or not string.find(rows[2], '^1?$') then
    return redis.error_reply('ERR apply.lua: malformed repair for key ' .. i)
  end
  if rows[3] ~= '' then
    if type(rows[3]) ~= 'table' then
      return redis.error_reply('ERR apply.lua: malformed replaced for key ' .. i)
    end
    for _, version in pairs(rows[3]) do
      if type(version) ~= 'string' or not string.find(version, '^%d+$') then
        return redis.error_reply('ERR apply.lua: malformed replaced for key ' .. i)
      end
    end
  end
  for j = 4, #rows, 2 do
    local field, row = rows[j], rows[j + 1]
    if not row or not string.find(row, '^%d+ ')
      or not (string.find(field, '^[^:]') or string.find(field, '^:override:.')) then
      return redis.error_reply('ERR apply.lua: malformed row for key ' .. i)
    end
  end
end

local quiet = ARGV[2] == 'quiet'
local reply = {}
for i, key in ipairs(KEYS) do
  local rows = changes[i]
  local repair, replaced = rows[2] == '1', rows[3]
  local changed = {}
  for j = 4, #rows, 2 do
    local field, row = rows[j], rows[j + 1]
    local stored = redis.call('HGET', key, field)
    local version = string.match(row, '^%d+')
    -- Without leading zeros, which no writer of ours writes: they would count as a higher number.
    stored = stored and string.match(stored, '^0*(%d+)')
    if not stored or newer(version, stored) or (repair and version == stored)
      or (replaced ~= '' and replaced[field] == stored) then
      changed[#changed + 1] = field
      changed[#changed + 1] = row
    end
  end
  if #changed > 0 and rows[1] ~= '' then
    changed[#changed + 1] = ':partition'
    changed[#changed + 1] = rows[1]
  end
  if #changed > 0 then
    redis.call('HSET', key, unpack(changed))
  end
  if #changed > 0 or repair then
    redis.call('HINCRBY', key, ':revision', 1)
  end
  if not quiet then
    reply[i] = redis.call('HGETALL', key)
  end
end
return reply
