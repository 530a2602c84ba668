-- Empties the shadow's database, if the rebuild that wants it still has the lock, and if it is no
-- other stack's live one.
--
-- KEYS   the lock and the progress of the rebuild, in the live database; the keys that only a live
--        one has
-- ARGV   live database, shadow database, who must have the lock
-- reply  'emptied', or why not: 'lock' or 'live'

local live, shadow, owner = unpack(ARGV)
if redis.call('GET', KEYS[1]) ~= owner then
  return 'lock'
end
-- After a switch, the shadow's database holds the old live space: that is ours.
local old = redis.call('HEXISTS', KEYS[2], 'switched') == 1
redis.call('SELECT', shadow)
if not old and redis.call('EXISTS', unpack(KEYS, 3)) > 0 then
  redis.call('SELECT', live)
  return 'live'
end
redis.call('FLUSHDB', 'ASYNC')
redis.call('SELECT', live)
return 'emptied'
