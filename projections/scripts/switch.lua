-- Swaps two databases, if the shadow proves that it has everything that the live one has.
--
-- KEYS   the rebuild's progress and differing SKUs, in the shadow; in the live database the lock,
--        the checkpoint and the marks, then the other keys that must stay where readers and workers
--        look for them
-- ARGV   live database, shadow database, who must have the lock, the run of the server that was
--        written to, what "switched" is noted as, the marks as they were as JSON, then n times:
--        "<topic>/<partition>", next offset that the shadow must have noted
-- reply  'switched', or why not: 'lock', 'server', 'live', 'lost', 'differing', 'behind' or 'marks'

local PROGRESS, DIFFERING, LOCK, CHECKPOINT, MARKS = 1, 2, 3, 4, 5

local live, shadow, owner, run_id, noted = unpack(ARGV, 1, 5)
local marks = cjson.decode(ARGV[6])
for i = 7, #ARGV, 2 do
  if not tonumber(ARGV[i + 1]) then
    return redis.error_reply('ERR switch.lua: malformed offset of ' .. ARGV[i])
  end
end

if redis.call('GET', KEYS[LOCK]) ~= owner then
  return 'lock'
end
if string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') ~= run_id then
  return 'server'
end

-- Whoever has lost the reply may ask again.
local before = redis.call('HMGET', KEYS[PROGRESS], 'owner', 'switched')
if before[1] == owner and before[2] then
  return 'switched'
end

redis.call('SELECT', shadow)
local flat = redis.call('HGETALL', KEYS[PROGRESS])
local differing = redis.call('SCARD', KEYS[DIFFERING])
-- Another stack has begun to use this database meanwhile.
local used = redis.call('EXISTS', KEYS[CHECKPOINT], KEYS[MARKS])
redis.call('SELECT', live)
if used > 0 then
  return 'live'
end
local progress = {}
for i = 1, #flat, 2 do
  progress[flat[i]] = flat[i + 1]
end
if progress.owner ~= owner or progress.audited ~= '1' then
  return 'lost'
end
for name in pairs(progress) do
  if string.sub(name, 1, 4) == 'end:' and progress['done:' .. string.sub(name, 5)] ~= '1' then
    return 'lost'
  end
end
for i = 7, #ARGV, 2 do
  if progress['at:' .. ARGV[i]] ~= ARGV[i + 1] then
    return 'lost'
  end
end
if differing > 0 then
  return 'differing'
end

local stored = redis.call('HGETALL', KEYS[CHECKPOINT])
if #stored == 0 then
  return 'behind'
end
for i = 1, #stored, 2 do
  -- Fields that begin with a colon are not offsets.
  if string.sub(stored[i], 1, 1) ~= ':'
    and tonumber(progress['at:' .. stored[i]] or 0) < tonumber(stored[i + 1]) then
    return 'behind'
  end
end
local told = redis.call('HGETALL', KEYS[MARKS])
local found = 0
for i = 1, #told, 2 do
  if marks[told[i]] ~= told[i + 1] then
    return 'marks'
  end
  found = found + 1
end
for _ in pairs(marks) do
  found = found - 1
end
if found ~= 0 then
  return 'marks'
end

redis.call('SELECT', shadow)
redis.call('HSET', KEYS[PROGRESS], 'switched', noted)
redis.call('SELECT', live)
for i = LOCK, #KEYS do
  redis.call('COPY', KEYS[i], KEYS[i], 'DB', shadow, 'REPLACE')
end
redis.call('SWAPDB', live, shadow)
return 'switched'
