-- Begins another epoch of a sale's counter, as Postgres has it; unless one as late has begun already.
--
-- KEYS   the sale, the due times of its holds, its holds, its keys, its stream
-- ARGV   the consumer group; JSON: {"sale": {field: text}, "holds": [reservation, due (ms), record, …],
--        "keys": [caller and key, answer, …]}
-- reply  1, or 0 if nothing was done

local asked = cjson.decode(ARGV[2])
local id, epoch = unpack(redis.call('HMGET', KEYS[1], 'id', 'epoch'))
if id and (tonumber(id) > tonumber(asked.sale.id)
    or (id == asked.sale.id and tonumber(epoch) >= tonumber(asked.sale.epoch))) then
  return 0
end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
-- Grants of an earlier epoch may still be read and granted once more; those of another sale may not.
if id and id ~= asked.sale.id then
  redis.call('DEL', KEYS[5])
end
for field, text in pairs(asked.sale) do
  redis.call('HSET', KEYS[1], field, text)
end
for i = 1, #asked.holds, 3 do
  redis.call('ZADD', KEYS[2], asked.holds[i + 1], asked.holds[i])
  redis.call('HSET', KEYS[3], asked.holds[i], asked.holds[i + 2])
end
for i = 1, #asked.keys, 2 do
  redis.call('HSET', KEYS[4], asked.keys[i], asked.keys[i + 1])
end
-- An error means that the group is there.
redis.pcall('XGROUP', 'CREATE', KEYS[5], ARGV[1], '0', 'MKSTREAM')
return 1
