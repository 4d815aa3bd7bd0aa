-- Documents of one index, in its order: that of submission for all that are listed, that of changes for q:changes.
-- ARGV: clock offset, index, lower bound of its scores as ZRANGE wants it, most documents to return
-- Returns their records, or nil without the run.

if redis.call('EXISTS', KEYS[1]) == 0 then
  return false
end

local records = {}
for i, id in ipairs(redis.call('ZRANGEBYSCORE', RUN .. ARGV[2], ARGV[3], '+inf', 'LIMIT', 0, ARGV[4])) do
  records[i] = record(id, read(id) or {})
end
return records
