-- Writes projections, each only if its SKU's revision is still the one it was computed from.
-- The write counts the revision up too, so of two writers that computed from the same revision
-- the second is refused.
--
-- KEYS   per SKU: its stock hash, its availability hash
-- ARGV   JSON, per SKU: [revision computed from, revision it becomes, projection,
--        [field, value, …] of the availability hash], all but the lists as text
-- reply  the positions, from 0, of the refused SKUs

-- A script is not rolled back: look at every argument before the first write.
local projections = cjson.decode(ARGV[1])
if #projections * 2 ~= #KEYS then
  return redis.error_reply('ERR project.lua: projections and keys differ in number')
end
for i, projection in ipairs(projections) do
  if #projection ~= 4 or #projection[4] % 2 == 1 then
    return redis.error_reply('ERR project.lua: malformed projection ' .. i)
  end
end

local refused = {}
for i, projection in ipairs(projections) do
  local stock, availability = KEYS[2 * i - 1], KEYS[2 * i]
  local from, to, published, fields = unpack(projection)
  if redis.call('HGET', stock, ':revision') == from then
    redis.call('HSET', stock, ':revision', to, ':published', published)
    -- The whole hash anew: fields of channels that are gone go with the old one.
    redis.call('DEL', availability)
    if #fields > 0 then
      redis.call('HSET', availability, unpack(fields))
    end
  else
    refused[#refused + 1] = i - 1
  end
end
return refused
