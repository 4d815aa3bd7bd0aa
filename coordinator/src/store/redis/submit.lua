-- Adds the documents that are not there yet.
-- ARGV: clock offset, then for each document: id, state (ready or failed), reason, body
-- Returns how many were added, or nil without the run.

if redis.call('EXISTS', KEYS[1]) == 0 then
  return false
end

local seq = tonumber(redis.call('HGET', KEYS[1], 'next_seq'))
local inserted, now = 0, clock()
for i = 2, #ARGV, 4 do
  local id, state, reason, body = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  if redis.call('EXISTS', RUN .. 'd:' .. id) == 0 then
    local doc = { state = state, version = '1', seq = int(seq + inserted) }
    if reason ~= '' then
      doc.reason = reason
    end
    set_change_seq(doc, now)
    redis.call('SET', RUN .. 'b:' .. id, body)
    write(id, {}, doc)
    inserted = inserted + 1
  end
end
redis.call('HSET', KEYS[1], 'next_seq', int(seq + inserted))
return inserted
