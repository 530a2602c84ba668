-- Sets the marks of one partition, unless somebody else has set them since they were last seen.
--
-- KEYS   the marks
-- ARGV   partition, its marks, the marks that were last seen there or ""
-- reply  nil, or the marks that are there instead; marks that are lost are set

local stored = redis.call('HGET', KEYS[1], ARGV[1])
if stored and stored ~= ARGV[3] and stored ~= ARGV[2] then
  return stored
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return false
