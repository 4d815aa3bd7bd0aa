-- Documents of one index, in its order: that of submission for all that are listed, that of changes for q:changes.
-- ARGV: clock offset, index, lower bound of its scores as ZRANGE wants it, most documents to return
-- Returns their records, or nil without the run.

if redis.call('EXISTS', KEYS[1]) == 0 then
  return false
end

local records, most, from = {}, tonumber(ARGV[4]), 0
repeat
  local ids = redis.call('ZRANGEBYSCORE', RUN .. ARGV[2], ARGV[3], '+inf', 'LIMIT', from, most - #records)
  for _, id in ipairs(ids) do
    -- An entry without a document is passed over; the audit removes it.
    local doc = read(id)
    if doc then
      records[#records + 1] = record(id, doc)
    end
  end
  from = from + #ids
until #ids == 0 or #records >= most
return records
