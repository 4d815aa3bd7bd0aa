-- Documents by state.
-- ARGV: clock offset, then the states
-- Returns the number in each, or nil without the run.

if redis.call('EXISTS', KEYS[1]) == 0 then
  return false
end

local counts = {}
for i = 2, #ARGV do
  counts[i - 1] = redis.call('ZCARD', RUN .. 's:' .. ARGV[i])
end
return counts
