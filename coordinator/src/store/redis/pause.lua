-- Pauses or resumes a run.
-- ARGV: clock offset, 1 to pause
-- Returns the run's hash as it is now, empty without the run.

if redis.call('EXISTS', KEYS[1]) == 1 then
  if ARGV[2] == '1' then
    redis.call('HSET', KEYS[1], 'paused', '1')
  else
    redis.call('HDEL', KEYS[1], 'paused')
  end
end
return redis.call('HGETALL', KEYS[1])
