-- Holds have ended in Postgres: their units come back to the counter, or are gone for good. A hold ends
-- once, however often this is said.
--
-- KEYS   the sale, the due times of its holds, its holds
-- ARGV   the sale's id, "return" or "forget", then the reservations
-- reply  how many of them were held here

if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then
  return 0
end
local ended, units = 0, 0
for i = 3, #ARGV do
  local record = redis.call('HGET', KEYS[3], ARGV[i])
  if record then
    ended = ended + 1
    units = units + tonumber(string.match(record, '^%d+ %d+ %d+ (%d+) '))
    redis.call('HDEL', KEYS[3], ARGV[i])
    redis.call('ZREM', KEYS[2], ARGV[i])
  end
end
if ARGV[2] == 'return' and units > 0 then
  redis.call('HINCRBY', KEYS[1], 'left', units)
end
return ended
