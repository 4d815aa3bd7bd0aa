-- Asks a worker to drain.
-- ARGV: clock offset, worker, time after which a worker without heartbeat is removed
-- Returns 1, or 0 without the worker.

remove_expired(clock(), tonumber(ARGV[3]))
if not redis.call('ZSCORE', RUN .. 'seen', ARGV[2]) then
  return 0
end
redis.call('SADD', RUN .. 'drain', ARGV[2])
return 1
