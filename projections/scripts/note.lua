-- Notes how far a rebuild is, if what it has noted before is still there: then everything that was
-- written before it is there, too, as Redis loses no write without the later ones.
--
-- KEYS   the progress of the rebuild
-- ARGV   JSON: {"owner": whose it must be, "run_id": the run of the server that was written to,
--        "moves": {part: [position it must have or "", position it gets or ""]},
--        "counts": {name: increment}, "facts": {name: text}}
-- reply  'noted', 'owner', 'server' or 'position'

local asked = cjson.decode(ARGV[1])
if redis.call('HGET', KEYS[1], 'owner') ~= asked.owner then
  return 'owner'
end
if string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') ~= asked.run_id then
  return 'server'
end
local repeated = false
for part, move in pairs(asked.moves) do
  local stored = redis.call('HGET', KEYS[1], 'at:' .. part) or ''
  if stored ~= move[1] then
    -- The client sends it again if the reply was lost.
    if stored == '' or stored ~= move[2] then
      return 'position'
    end
    repeated = true
  end
end
if repeated then
  return 'noted'
end

for part, move in pairs(asked.moves) do
  if move[2] ~= '' then
    redis.call('HSET', KEYS[1], 'at:' .. part, move[2])
  end
end
for name, count in pairs(asked.counts) do
  redis.call('HINCRBY', KEYS[1], name, count)
end
for name, text in pairs(asked.facts) do
  redis.call('HSET', KEYS[1], name, text)
end
return 'noted'
