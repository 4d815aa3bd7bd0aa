-- Begins to cancel a run, or ends that when all its documents have ended.
-- ARGV: clock offset, 1 to begin
-- Returns 1 if the run is not being cancelled any more, else 0; nil without the run.

if redis.call('EXISTS', KEYS[1]) == 0 then
  return false
end
if ARGV[2] == '1' then
  redis.call('HSET', KEYS[1], 'cancelling', '1')
  return 0
end
for _, state in ipairs({ 'ready', 'leased', 'delayed' }) do
  if redis.call('EXISTS', RUN .. 's:' .. state) == 1 then
    return 0
  end
end
redis.call('HDEL', KEYS[1], 'cancelling')
return 1
