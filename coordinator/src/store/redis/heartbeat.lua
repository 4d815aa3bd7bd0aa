-- Keeps what a worker reports of itself, and removes workers without a heartbeat for long.
-- ARGV: clock offset, worker, report, time after which a worker without heartbeat is removed
-- Returns 1 if the worker is asked to drain.

local now = clock()
remove_expired(now, tonumber(ARGV[4]))
redis.call('HSET', RUN .. 'reports', ARGV[2], ARGV[3])
redis.call('ZADD', RUN .. 'seen', int(now), ARGV[2])
return redis.call('SISMEMBER', RUN .. 'drain', ARGV[2])
