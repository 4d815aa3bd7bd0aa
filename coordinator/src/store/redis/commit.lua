-- Ends an attempt: only under the live lease.
-- ARGV: clock offset, lease id, next (continue, judge, retry, release or end), next lease id or '', delay, state, reason,
--       time to live of the next lease, how the attempt ended, its detail (JSON), 1 if there is a body, body,
--       checkpoint or ''
-- Returns 'done', 'repeated', 'stale' or 'cancelling', and the envelope if it has the lease that the commit granted.

local lease, next, delay, state, reason = ARGV[2], ARGV[3], tonumber(ARGV[5]), ARGV[6], ARGV[7]
local id, doc = find(lease)
if not doc then
  return { 'stale' }
end
if doc.lease ~= lease then
  if doc.next and doc.lease == doc.next then
    return { 'repeated', flat(doc) }
  end
  return { 'repeated' }
end

if is_cancelling() and not (next == 'end' and state == 'cancelled') then
  return { 'cancelling' }
end

local now = clock()
local ended = copy(doc)
end_lease(id, ended, now, ARGV[9], ARGV[10])
ended.last = lease
ended.next = nil
if ARGV[11] == '1' then
  redis.call('SET', RUN .. 'b:' .. id, ARGV[12])
end
if ARGV[13] ~= '' or next ~= 'release' then
  set_checkpoint(id, ARGV[13])
end
if next == 'retry' then
  ended.errors = int((doc.errors or 0) + 1)
  ended.state = 'delayed'
  ended.due_ms = int(now + delay)
elseif next == 'release' then
  ended.releases = int((doc.releases or 0) + 1)
  ended.state = 'ready'
else
  ended.errors = nil
  ended.losses = nil
  ended.judge = next == 'judge' and '1' or nil
  if next == 'end' then
    ended.state = state
    ended.reason = reason ~= '' and reason or nil
  elseif ARGV[4] ~= '' then
    grant_lease(ended, ARGV[4], doc.worker, now, now + ARGV[8])
    ended.next = ARGV[4]
  else
    ended.state = 'ready'
  end
end
change(id, doc, ended)
if ended.lease then
  return { 'done', flat(ended) }
end
return { 'done' }
