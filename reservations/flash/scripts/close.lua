-- Ends a sale's grants; and, once Postgres has closed the sale, removes what they were made of.
--
-- KEYS   the sale, the due times of its holds, its holds, its keys, its stream
-- ARGV   the sale's id; "" or how long the word "closed" is kept (seconds): then the rest is removed
-- reply  the records of the holds, none if the sale is not here

if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then
  return {}
end
redis.call('HSET', KEYS[1], 'status', 'closed')
local records = redis.call('HVALS', KEYS[3])
if ARGV[2] ~= '' then
  redis.call('DEL', KEYS[2], KEYS[3], KEYS[4], KEYS[5])
  redis.call('EXPIRE', KEYS[1], ARGV[2])
end
return records
