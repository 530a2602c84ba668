-- Empties the shadow's database, if the rebuild that wants it still has the lock.
--
-- KEYS   the lock
-- ARGV   shadow database, who must have the lock
-- reply  1, or 0 if another has it

if redis.call('GET', KEYS[1]) ~= ARGV[2] then
  return 0
end
redis.call('SELECT', ARGV[1])
redis.call('FLUSHDB', 'ASYNC')
return 1
