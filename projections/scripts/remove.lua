-- Removes keys, if the rebuild that wants it has not been replaced by another one meanwhile.
--
-- KEYS   what says whose they are: the lock, or the progress of the rebuild; then the keys to remove
-- ARGV   who it must be
-- reply  1, or 0 if it is another: nothing is removed then

local owner
if redis.call('TYPE', KEYS[1]).ok == 'hash' then
  owner = redis.call('HGET', KEYS[1], 'owner')
else
  owner = redis.call('GET', KEYS[1])
end
if owner ~= ARGV[1] then
  return 0
end
redis.call('DEL', unpack(KEYS, 2))
return 1
