-- Keeps what a worker says of itself, and forgets workers that said nothing for long.
-- ARGV: clock offset, worker, report, time after which one is forgotten
-- Returns 1 if the worker is asked to drain.

local now = clock()
forget(now, tonumber(ARGV[4]))
redis.call('HSET', RUN .. 'reports', ARGV[2], ARGV[3])
redis.call('ZADD', RUN .. 'seen', int(now), ARGV[2])
return redis.call('SISMEMBER', RUN .. 'drain', ARGV[2])
