-- Grants once more, in the present epoch, what an earlier one had granted and lost: if units are left.
--
-- KEYS   the sale, the due times of its holds, its holds, its keys, its stream
-- ARGV   the sale's id, the present epoch, reservation, quantity, due (ms), caller and key, digest of the
--        request, what else the settlement wants to know
-- reply  "granted" (now or before), "gone": it cannot be, or "lost": Redis is not in that epoch

local sale, due, holds, keys, stream = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local id, epoch, left, sequence, status, warehouse, version = unpack(redis.call('HMGET', sale,
  'id', 'epoch', 'left', 'sequence', 'status', 'warehouse', 'version'))
if id ~= ARGV[1] or epoch ~= ARGV[2] then
  return 'lost'
end
local reservation, quantity, key = ARGV[3], tonumber(ARGV[4]), ARGV[6]
local answered = redis.call('HGET', keys, key)
if answered then
  return string.match(answered, '^%S+ (%S+)') == reservation and 'granted' or 'gone'
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if status ~= 'open' or quantity > tonumber(left) or tonumber(ARGV[5]) <= now then
  return 'gone'
end
local number = string.format('%.0f', tonumber(sequence) + 1)
local record = table.concat({id, epoch, number, ARGV[4], ARGV[5], reservation, ARGV[8]}, ' ')
redis.call('ZADD', due, ARGV[5], reservation)
redis.call('HSET', holds, reservation, record)
redis.call('HSET', keys, key,
  table.concat({ARGV[7], reservation, ARGV[5], version, warehouse}, ' '))
redis.call('XADD', stream, '*', 'grant', record)
redis.call('HSET', sale, 'left', tonumber(left) - quantity, 'sequence', number)
return 'granted'
