-- Replaces both hashes of SKUs, each only if its revision is still the one it was computed from.
--
-- KEYS   per SKU: its stock hash, its availability hash
-- ARGV   JSON, per SKU: [revision computed from, [field, value, …] of the stock hash,
--        [field, value, …] of the availability hash]; a revision of "" for none or no hash
-- reply  the positions, from 0, of the refused SKUs

-- A script is not rolled back: look at every argument before the first write.
local skus = cjson.decode(ARGV[1])
if #skus * 2 ~= #KEYS then
  return redis.error_reply('ERR replace.lua: SKUs and keys differ in number')
end
for i, sku in ipairs(skus) do
  if #sku ~= 3 or #sku[2] == 0 or #sku[2] % 2 == 1 or #sku[3] % 2 == 1 then
    return redis.error_reply('ERR replace.lua: malformed SKU ' .. i)
  end
end

local refused = {}
for i, sku in ipairs(skus) do
  local stock, availability = KEYS[2 * i - 1], KEYS[2 * i]
  local revision = ''
  if redis.call('TYPE', stock).ok == 'hash' then
    revision = redis.call('HGET', stock, ':revision') or ''
  end
  if revision == sku[1] then
    redis.call('DEL', stock, availability)
    redis.call('HSET', stock, unpack(sku[2]))
    if #sku[3] > 0 then
      redis.call('HSET', availability, unpack(sku[3]))
    end
  else
    refused[#refused + 1] = i - 1
  end
end
return refused
