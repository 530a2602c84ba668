-- Grants requests in their order, until the first that has to wait.
--
-- KEYS   the sale, the due times of its holds, its holds, its keys, its stream
-- ARGV   the least epoch that the caller knows of, then per request: reservation, quantity, how long it is
--        held (ms), caller and key, digest of the request, what else the settlement wants to know, the
--        warehouses that it may come from as "|W1|W2|" or "" for any
-- reply  the epoch, then per request one of
--        {"granted", reservation, due (ms), version, warehouse}, {"insufficient", units left}, {"sold_out"}: nothing is left
--        and no hold can come back, {"key_reused"}, {"elsewhere"}: it is of another warehouse,
--        {"waits"}: it is behind one that is insufficient, {"closed"};
--        {} if there is no sale, or only one of an earlier epoch

local sale, due, holds, keys, stream = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local id, epoch, left, sequence, status, warehouse, version = unpack(redis.call('HMGET', sale,
  'id', 'epoch', 'left', 'sequence', 'status', 'warehouse', 'version'))
if not id or tonumber(epoch) < tonumber(ARGV[1]) then
  return {}
end
if (#ARGV - 1) % 7 ~= 0 then
  return redis.error_reply('ERR grant.lua: a part of a request is missing')
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
left, sequence = tonumber(left), tonumber(sequence)

local replies = {epoch}
local waits = false
for i = 2, #ARGV, 7 do
  local reservation, quantity, key = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 3]
  local reply
  local answered = redis.call('HGET', keys, key)
  if answered then
    -- As it was answered: it may have been in an earlier sale, of another warehouse.
    local digest, earlier, until_ms, of, from = string.match(answered, '^(%S+) (%S+) (%d+) (%d+) (.*)$')
    reply = digest == ARGV[i + 4] and {'granted', earlier, until_ms, of, from} or {'key_reused'}
  elseif status ~= 'open' then
    reply = {'closed'}
  elseif ARGV[i + 6] ~= '' and not string.find(ARGV[i + 6], '|' .. warehouse .. '|', 1, true) then
    reply = {'elsewhere'}
  elseif waits then
    reply = {'waits'}
  elseif quantity <= left then
    left, sequence = left - quantity, sequence + 1
    local due_ms = string.format('%.0f', now + tonumber(ARGV[i + 2]))
    local record = table.concat({id, epoch, string.format('%.0f', sequence), ARGV[i + 1], due_ms,
      reservation, ARGV[i + 5]}, ' ')
    redis.call('ZADD', due, due_ms, reservation)
    redis.call('HSET', holds, reservation, record)
    redis.call('HSET', keys, key,
      table.concat({ARGV[i + 4], reservation, due_ms, version, warehouse}, ' '))
    redis.call('XADD', stream, '*', 'grant', record)
    redis.call('HSET', sale, 'left', left, 'sequence', string.format('%.0f', sequence))
    reply = {'granted', reservation, due_ms, version, warehouse}
  elseif left == 0 and redis.call('ZCARD', due) == 0 then
    reply = {'sold_out'}
  else
    reply, waits = {'insufficient', left}, true
  end
  replies[#replies + 1] = reply
end
return replies
