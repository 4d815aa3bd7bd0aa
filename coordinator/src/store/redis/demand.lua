-- What a run has for a worker now; delayed documents that are due become ready first.
-- ARGV: clock offset, the worker's model and its weights hash
-- Returns the run's priority, its leased documents, and those that may be leased.

local ready = leasable(clock(), ARGV[2], ARGV[3])
local priority = tonumber(redis.call('HGET', KEYS[1], 'priority') or 0)
return { priority, redis.call('ZCARD', RUN .. 's:leased'), ready }
