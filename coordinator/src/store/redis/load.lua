-- Adds documents that ended elsewhere, with their attempts and revisions, unless they are there.
-- ARGV: clock offset, then for each document: id, state, reason, version, 1 if it was begun, 1 if it was flushed, body,
--       number of attempts, the attempts, number of revisions, the revisions
-- Returns how many were added, or nil without the run.

if redis.call('EXISTS', KEYS[1]) == 0 then
  return false
end

local seq = tonumber(redis.call('HGET', KEYS[1], 'next_seq'))
local inserted, now, at = 0, clock(), 2
local function list(key, add)
  local n = tonumber(ARGV[at])
  for i = at + 1, at + n do
    if add then
      redis.call('RPUSH', key, ARGV[i])
    end
  end
  at = at + n + 1
end
while at <= #ARGV do
  local id, body = ARGV[at], ARGV[at + 6]
  local new = redis.call('EXISTS', RUN .. 'd:' .. id) == 0
  if new then
    local doc = { state = ARGV[at + 1], version = ARGV[at + 3], seq = int(seq + inserted) }
    doc.reason = ARGV[at + 2] ~= '' and ARGV[at + 2] or nil
    doc.open = ARGV[at + 4] == '1' and '1' or nil
    doc.flushed = ARGV[at + 5] == '1' and '1' or nil
    set_change_seq(doc, now)
    redis.call('SET', RUN .. 'b:' .. id, body)
    write(id, {}, doc)
    inserted = inserted + 1
  end
  at = at + 7
  list(RUN .. 'a:' .. id, new)
  list(RUN .. 'h:' .. id, new)
end
redis.call('HSET', KEYS[1], 'next_seq', int(seq + inserted))
return inserted
