-- All workers with a heartbeat within the time to live.
-- ARGV: clock offset, time after which a worker without heartbeat is removed
-- Returns of each: id, report, time of the heartbeat, 1 if it is asked to drain.

local found = {}
local seen = redis.call('ZRANGEBYSCORE', RUN .. 'seen', int(clock() - ARGV[2]), '+inf', 'WITHSCORES')
for i = 1, #seen, 2 do
  local report = redis.call('HGET', RUN .. 'reports', seen[i])
  found[#found + 1] = { seen[i], report, int(seen[i + 1]), redis.call('SISMEMBER', RUN .. 'drain', seen[i]) }
end
return found
