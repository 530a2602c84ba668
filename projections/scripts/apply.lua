-- Writes changed rows, each only if its version is higher than the stored one.
--
-- KEYS   the stock hash of each SKU
-- ARGV   JSON, per SKU: [partition, repair, replaced, field, row, field, row, …], a row being
--        "<version> …", its field a warehouse or ":override:<channel>"; a partition of "" leaves the
--        one stored; a repair of "1" writes rows of the stored version too, and counts as a change
--        always; replaced is "" or {field: version}: a row that is stored in just that version is
--        overwritten by a lower one too; what is stored and is no row counts as nothing stored
--        "quiet", if nobody wants to know the state
-- reply  per SKU: its whole stock hash after the write, as HGETALL gives it; none if quiet

-- What is longer is no row; `projections.codec` has the same limit, and the same two forms.
local MAX_ROW = 200
-- The version is taken without leading zeros, which no writer of ours writes: they would count as a
-- higher number.
local LEVEL = '^0*(%d+) %-?%d+ %-?%d+ %-?%d+ %-?%d+ %-?%d* %d+ [01]$'
local OVERRIDE = '^0*(%d+) %d+ [%-%d]%d* [%-%d]%d* [%-%d]%d* [%-%d]%d* [%-%d]%d* [%-%d]%d* %d+ '
  .. '[01] [01]$'
local INTERNAL = {[':revision'] = '^%d+$', [':partition'] = '^%d+$', [':alerted'] = '^%d+$',
  [':published'] = '^%[%d+,'}
local COLON = 58
-- Lua's numbers are exact below.
local EXACT = 2^53

-- Versions are compared as text: Lua's numbers are exact only to 2^53.
local function newer(version, stored)
  if #version ~= #stored then
    return #version > #stored
  end
  return version > stored
end

-- The version of a row as it is stored; nothing for what no writer of ours has written.
local function version_of(field, row)
  local form = string.byte(field) == COLON and OVERRIDE or LEVEL
  return row and #row <= MAX_ROW and string.match(row, form)
end

-- Asks a hash. A key of another type holds nothing that could be kept: it goes.
local function ask(command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if type(reply) == 'table' and reply.err then
    if string.find(reply.err, 'WRONGTYPE', 1, true) then
      redis.call('DEL', key)
    end
    reply = redis.call(command, key, ...)
  end
  return reply
end

-- Counts the revision up, also one that is no number: from that of the last projection, which is
-- then not taken for the one of the new state.
local function count_up(key)
  local revision = redis.pcall('HINCRBY', key, ':revision', 1)
  if type(revision) == 'number' and revision > 0 and revision < EXACT then
    return
  end
  local published = redis.call('HGET', key, ':published')
  local last = published and tonumber(string.match(published, '^%[(%d+),') or '')
  if last and last + 1 < EXACT then
    redis.call('HSET', key, ':revision', string.format('%.0f', last + 1))
  else
    redis.call('HDEL', key, ':published')
    redis.call('HSET', key, ':revision', '1')
  end
end

-- Takes away what no writer of ours has written, but for overrides: until they come again they block.
local function clean(key)
  local found = ask('HGETALL', key)
  for j = 1, #found, 2 do
    local field, value = found[j], found[j + 1]
    local known
    if string.byte(field) == COLON then
      known = string.find(field, '^:override:.')
        or (INTERNAL[field] and string.find(value, INTERNAL[field]))
    else
      known = field ~= '' and version_of(field, value)
    end
    if not known and field ~= ':revision' then
      redis.call('HDEL', key, field)
    end
  end
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
  if repair then
    clean(key)
  end
  for j = 4, #rows, 2 do
    local field, row = rows[j], rows[j + 1]
    local stored = version_of(field, ask('HGET', key, field))
    local version = string.match(row, '^%d+')
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
    count_up(key)
  end
  if not quiet then
    reply[i] = ask('HGETALL', key)
  end
end
return reply
