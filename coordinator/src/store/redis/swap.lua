-- Puts a document to another state, if it still has the version that was read.
-- ARGV: clock offset, document id, version, state, reason, 1 if there is a body, body, fingerprint of these,
--       1 if it is for the judge
-- Returns 'done', 'changed', or 'missing'.

local id, version, state, reason, fingerprint = ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[8]
local doc = read(id)
if not doc then
  return 'missing'
end
if tonumber(doc.version) ~= version then
  local repeated = tonumber(doc.version) == version + 1 and doc.swap == fingerprint
  return repeated and 'done' or 'changed'
end

local put = copy(doc)
if doc.lease then
  end_lease(id, put, clock(), 'released', '{"revoked":"' .. state .. '"}')
end
if TERMINAL[doc.state] and not TERMINAL[state] then
  local revision = { version = version, state = doc.state, reason = doc.reason or '', body = redis.call('GET', RUN .. 'b:' .. id) }
  redis.call('RPUSH', RUN .. 'h:' .. id, cjson.encode(revision))
end
if ARGV[6] == '1' then
  redis.call('SET', RUN .. 'b:' .. id, ARGV[7])
end
set_checkpoint(id, '')
put.state = state
put.reason = reason ~= '' and reason or nil
put.errors = nil
put.losses = nil
put.releases = nil
put.due_ms = nil
put.judge = ARGV[9] == '1' and '1' or nil
put.flushed = nil
put.swap = fingerprint
change(id, doc, put)
return 'done'
