-- Creates the run unless it exists.
-- ARGV: clock offset, then each field and its value
-- Returns the run's hash as it is now.

if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'next_seq', '0', unpack(ARGV, 2))
end
return redis.call('HGETALL', KEYS[1])
