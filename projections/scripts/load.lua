-- Writes both hashes of SKUs to a space that nobody but its rebuild writes, each only if its revision
-- is still the one it was computed from: two processes may load one SKU at once. Notes which SKUs the
-- channels may have been told something wrong of.
--
-- KEYS   the progress of the rebuild, the set of suspects, then per SKU: its stock hash, its
--        availability hash
-- ARGV   whose space it must be, then per SKU: its name, "1" for a suspect or "0", the revision that
--        it was computed from or "" for none, how many arguments the stock hash has, how many the
--        availability hash, and these
-- reply  the positions, from 0, of the refused SKUs; nil if the space is another's or was emptied:
--        nothing is written then

-- A script is not rolled back: look at every argument before the first write.
local at, skus = 2, 0
while at <= #ARGV do
  local stock, readers = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  if not stock or not readers or stock == 0 or stock % 2 == 1 or readers % 2 == 1 then
    return redis.error_reply('ERR load.lua: malformed SKU ' .. skus)
  end
  at = at + 5 + stock + readers
  skus = skus + 1
end
if at ~= #ARGV + 1 or 2 * skus + 2 ~= #KEYS then
  return redis.error_reply('ERR load.lua: SKUs and keys differ in number')
end
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then
  return false
end

local suspects, sound, refused = {}, {}, {}
at = 2
for i = 3, #KEYS, 2 do
  local first = at + 5
  local middle = first + tonumber(ARGV[at + 3])
  local last = middle + tonumber(ARGV[at + 4])
  if (redis.call('HGET', KEYS[i], ':revision') or '') == ARGV[at + 2] then
    redis.call('HSET', KEYS[i], unpack(ARGV, first, middle - 1))
    redis.call('DEL', KEYS[i + 1])
    if last > middle then
      redis.call('HSET', KEYS[i + 1], unpack(ARGV, middle, last - 1))
    end
    local named = ARGV[at + 1] == '1' and suspects or sound
    named[#named + 1] = ARGV[at]
  else
    refused[#refused + 1] = (i - 3) / 2
  end
  at = last
end
if #suspects > 0 then
  redis.call('SADD', KEYS[2], unpack(suspects))
end
if #sound > 0 then
  redis.call('SREM', KEYS[2], unpack(sound))
end
return refused
