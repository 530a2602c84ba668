-- Compares the working state of SKUs with what it must be, and says what readers see of them.
-- Writes nothing.
--
-- KEYS   per SKU: its stock hash, its availability hash
-- ARGV   JSON: {"channels": [name, …], "rows": per SKU [field, row, field, row, …]}; a row is as
--        in apply.lua, a warehouse's without commit time and deleted flag, an override's without
--        commit time. An empty list is given as [""].
-- reply  per SKU, a line each: "1" if just these rows are there and alive, and readers find no field
--        of another channel, else "0"; for each channel
--        "<available> <status> <backorderable> <order limit> <version>", or nothing where readers
--        find none

local INTERNAL = {[':revision'] = '^%d+$', [':partition'] = '^%d+$', [':alerted'] = '^%d+$',
  [':published'] = '^%[%d+,"[^"]*",%d+,%d+,{.*}%]$'}
local DELETED_LEVEL = '^%d+ %-?%d+ %-?%d+ %-?%d+ %-?%d+ %-?%d* %d+ 1$'
local DELETED_OVERRIDE = '^%d+ %d+ [%-%d]%d* [%-%d]%d* [%-%d]%d* [%-%d]%d* [%-%d]%d* [%-%d]%d* %d+ [01] 1$'

local asked = cjson.decode(ARGV[1])
if #asked.rows * 2 ~= #KEYS then
  return redis.error_reply('ERR audit.lua: rows and keys differ in number')
end
local fields = {'as_of'}
for _, channel in ipairs(asked.channels) do
  for _, suffix in ipairs({'', ':status', ':version', ':backorderable', ':order_limit'}) do
    fields[#fields + 1] = channel .. suffix
  end
end

local function is_internal(field, value)
  local pattern = INTERNAL[field]
  return pattern and string.find(value, pattern)
end

-- Whether a live row is the expected one, but for what is not compared.
local function equal(row, expected, is_override)
  if is_override then
    return string.gsub(row, '^(%d+) %d+ ', '%1 ', 1) == expected
  end
  local length = #expected
  return string.sub(row, 1, length) == expected and string.find(row, '^ %d+ 0$', length + 1)
end

local function is_same(stock, rows)
  local expected, missing = {}, 0
  for j = 1, #rows - 1, 2 do
    expected[rows[j]] = rows[j + 1]
    missing = missing + 1
  end
  for j = 1, #stock, 2 do
    local field, row = stock[j], stock[j + 1]
    local is_override = string.sub(field, 1, 10) == ':override:'
    if string.byte(field, 1) == 58 and not is_override then
      if not is_internal(field, row) then
        return false
      end
    elseif not string.find(row, is_override and DELETED_OVERRIDE or DELETED_LEVEL) then
      if not expected[field] or not equal(row, expected[field], is_override) then
        return false
      end
      missing = missing - 1
    end
  end
  return missing == 0
end

local function shown(values, at)
  local available, status, version = values[at], values[at + 1], values[at + 2]
  if not (available and status and version and values[1]) then
    return ''
  end
  if not string.find(values[1], '^%d+$') or #values[1] > 14 then
    return '!'
  end
  local backorderable = values[at + 3] or '0'
  local limit = values[at + 4] or (available ~= '0' and available or backorderable)
  return table.concat({available, status, backorderable, limit, version}, ' ')
end

-- Whether readers find fields that were not asked for.
local function has_more(key, values)
  local known = 0
  for n = 1, #fields do
    if values[n] then
      known = known + 1
    end
  end
  return redis.call('HLEN', key) > known
end

local reply = {}
for i, rows in ipairs(asked.rows) do
  local stock = redis.pcall('HGETALL', KEYS[2 * i - 1])
  local values = redis.pcall('HMGET', KEYS[2 * i], unpack(fields))
  local same = not stock.err and is_same(stock, rows)
    and not values.err and not has_more(KEYS[2 * i], values)
  local lines = {same and '1' or '0'}
  for n = 1, #asked.channels do
    lines[n + 1] = values.err and '!' or shown(values, 2 + (n - 1) * 5)
  end
  reply[i] = table.concat(lines, '\n')
end
return reply
