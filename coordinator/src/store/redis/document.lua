-- Prepended to every step: the keys of one run, and how a document is read and written.
--
-- KEYS[1] is the run's hash, lh:{RUN}:run. All other keys of the run begin as it does, so they live in one hash slot;
-- which of them a step touches depends on what it reads, so they are built here:
--   run                 HASH    the run, its policy, `paused` and `cancelling` if it is, and next_seq
--   d:ID                HASH    a document's envelope; a field that is false, empty or 0 is absent
--   b:ID, c:ID          STRING  its body and its checkpoint, JSON; see `save_tokens`
--   a:ID, h:ID          LIST    its attempts, and its revisions (what it was before each requeue), JSON
--   q:changes           ZSET    ids by the number of their latest change; the run's `changes` counts them
--   all, s:STATE, r:STATE:REASON              ZSET of ids by seq, to list
--   q:ready, q:judge, q:delayed, q:expiry, q:progress, q:unflushed   ZSET of ids in the order in which they are taken
--   leases              HASH    lease id to document id, of live leases and of those committed last
--   req:WORKER:REQUEST  LIST    when the reply to a lease request expires, then the leases it granted
--   actions             LIST    the audit log, JSON, the oldest first
--   totals              STRING  figures of the run as last counted, JSON
-- Workers belong to no run; their keys are under lh:{*}:, a name that no run can have:
--   reports             HASH    worker to its latest report of itself, JSON
--   seen                ZSET    workers by the time of that heartbeat
--   drain               SET     workers that are asked to drain
--   actions             LIST    as above
-- ARGV[1] is added to the server's time: 0 except in tests.

local RUN = string.sub(KEYS[1], 1, -4)
-- Sorts documents that were never leased behind those that were.
local NEW = 2 ^ 40
local TERMINAL = { accepted = true, rejected = true, failed = true, cancelled = true }

-- Lua would write large numbers as 1.7e+12.
local function int(number)
  return string.format('%.0f', number)
end

local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
end

local function read(id)
  local flat = redis.call('HGETALL', RUN .. 'd:' .. id)
  if #flat == 0 then
    return nil
  end
  local doc = {}
  for i = 1, #flat, 2 do
    doc[flat[i]] = flat[i + 1]
  end
  return doc
end

local function copy(doc)
  local clone = {}
  for field, value in pairs(doc) do
    clone[field] = value
  end
  return clone
end

local function flat(doc)
  local list = {}
  for field, value in pairs(doc) do
    list[#list + 1] = field
    list[#list + 1] = value
  end
  return list
end

-- A document as the store returns it: id, envelope, body, checkpoint or nil.
local function record(id, doc)
  return { id, flat(doc), redis.call('GET', RUN .. 'b:' .. id), redis.call('GET', RUN .. 'c:' .. id) }
end

-- The indexes that a document belongs in, with its score in each. They are a function of the envelope and of nothing
-- else: `write` keeps them so, the audit compares.
local function index_entries(doc)
  local seq = tonumber(doc.seq)
  local at = { all = seq, ['s:' .. doc.state] = seq, ['q:changes'] = tonumber(doc.mark) }
  if TERMINAL[doc.state] then
    at['r:' .. doc.state .. ':' .. (doc.reason or '')] = seq
  end
  if doc.state == 'ready' then
    at[doc.judge and 'q:judge' or 'q:ready'] = doc.open and seq or seq + NEW
  elseif doc.state == 'delayed' then
    at['q:delayed'] = tonumber(doc.due_ms)
  elseif doc.state == 'leased' then
    at['q:expiry'] = tonumber(doc.expires_ms)
    at['q:progress'] = tonumber(doc.progress_ms)
  elseif doc.state == 'accepted' and not doc.flushed then
    at['q:unflushed'] = seq
  end
  return at
end

-- The leases by which a document can be found.
local function leases(doc)
  local held = {}
  if doc.lease then
    held[doc.lease] = true
  end
  if doc.last then
    held[doc.last] = true
  end
  return held
end

-- Writes the envelope `new` over `old` (empty for a new document), and moves the document between the indexes.
local function write(id, old, new)
  local was, is = old.seq and index_entries(old) or {}, index_entries(new)
  for index in pairs(was) do
    if not is[index] then
      redis.call('ZREM', RUN .. index, id)
    end
  end
  for index, score in pairs(is) do
    if was[index] ~= score then
      redis.call('ZADD', RUN .. index, int(score), id)
    end
  end
  local held, holds = leases(old), leases(new)
  for lease in pairs(held) do
    if not holds[lease] then
      redis.call('HDEL', RUN .. 'leases', lease)
    end
  end
  for lease in pairs(holds) do
    if not held[lease] then
      redis.call('HSET', RUN .. 'leases', lease, id)
    end
  end
  local changed = {}
  for field, value in pairs(new) do
    if old[field] ~= value then
      changed[#changed + 1] = field
      changed[#changed + 1] = value
    end
  end
  if #changed > 0 then
    redis.call('HSET', RUN .. 'd:' .. id, unpack(changed))
  end
  for field in pairs(old) do
    if new[field] == nil then
      redis.call('HDEL', RUN .. 'd:' .. id, field)
    end
  end
end

-- Makes a document the latest of the run's changes.
local function set_change_seq(doc, now)
  doc.mark = int(redis.call('HINCRBY', KEYS[1], 'changes', 1))
  doc.changed_ms = int(now)
end

-- As `write`, and counts the change.
local function change(id, old, new)
  new.version = int(old.version + 1)
  set_change_seq(new, clock())
  write(id, old, new)
end

local function set_checkpoint(id, json)
  if json == '' then
    redis.call('DEL', RUN .. 'c:' .. id)
  else
    redis.call('SET', RUN .. 'c:' .. id, json)
  end
end

-- Begins a checkpoint that can be appended to: its number of tokens, with blanks before it, so that it can be overwritten.
local function head(count)
  return string.format('{"count":%10d,"tokens":[', count)
end

-- Adds tokens to a checkpoint that has as many as `from` and ends with `rest`; from 0 on it is a new one. Only what is added is
-- written, and so goes to replicas and to the file. What was added before is not added again. False if it has others.
local function save_tokens(id, from, count, tokens, rest)
  local key = RUN .. 'c:' .. id
  if from == 0 then
    redis.call('SET', key, head(count) .. tokens .. rest)
    return true
  end
  local after = (count > 0 and ',' or '') .. tokens .. rest
  local length = redis.call('STRLEN', key)
  local begin = redis.call('GETRANGE', key, 0, #head(from) - 1)
  if begin == head(from + count) and redis.call('GETRANGE', key, -#after, -1) == after then
    return true
  end
  if begin ~= head(from) or redis.call('GETRANGE', key, -#rest, -1) ~= rest then
    return false
  end
  redis.call('SETRANGE', key, length - #rest, after)
  redis.call('SETRANGE', key, 0, head(from + count))
  return true
end

local function grant_lease(doc, lease, worker, now, expires)
  doc.state = 'leased'
  doc.lease = lease
  doc.worker = worker
  doc.granted_ms = int(now)
  doc.expires_ms = int(expires)
  doc.progress = '0'
  doc.progress_ms = int(now)
end

-- Ends the lease of `doc` and appends the attempt; `detail` is JSON, and no other part needs an escape.
local function end_lease(id, doc, now, how, detail)
  redis.call('RPUSH', RUN .. 'a:' .. id, '{"lease":"' .. doc.lease .. '","worker":"' .. doc.worker
    .. '","granted_ms":' .. doc.granted_ms .. ',"ended_ms":' .. int(now) .. ',"end":"' .. how
    .. '","detail":' .. detail .. '}')
  doc.lease = nil
  doc.worker = nil
  doc.granted_ms = nil
  doc.expires_ms = nil
  doc.progress = nil
  doc.progress_ms = nil
end

-- Delayed documents that are due become ready, at most so many in one step.
local function promote_due(now)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', RUN .. 'q:delayed', '-inf', int(now), 'LIMIT', 0, 1024)) do
    local doc = read(id)
    if doc and doc.state == 'delayed' then
      local ready = copy(doc)
      ready.state = 'ready'
      ready.due_ms = nil
      change(id, doc, ready)
    else
      -- A stale entry.
      redis.call('ZREM', RUN .. 'q:delayed', id)
    end
  end
end

-- What may be leased to a worker with this model: how many documents in all, how many of them new ones, and how many
-- that wait for the judge.
local function leasable(now, model, weights)
  local policy = redis.call('HMGET', KEYS[1], 'paused', 'model', 'max_open', 'judge', 'cancelling')
  local wanted, judge = policy[2] or '', policy[4] or ''
  local can_write = wanted == '' or wanted == model or wanted == weights
  local can_judge = judge ~= '' and (judge == model or judge == weights)
  if policy[1] or policy[5] or not (can_write or can_judge) then
    return 0, 0, 0
  end
  promote_due(now)
  local waiting = judge ~= '' and redis.call('ZCARD', RUN .. 'q:judge') or 0
  local votes = can_judge and waiting or 0
  if not can_write then
    return votes, 0, votes
  end
  local ready = redis.call('ZCARD', RUN .. 'q:ready')
  local bound = tonumber(policy[3] or 0)
  if bound == 0 then
    return ready + votes, ready, votes
  end
  local begun = redis.call('ZCOUNT', RUN .. 'q:ready', '-inf', '(' .. int(NEW))
  local open = begun + waiting + redis.call('ZCARD', RUN .. 's:leased') + redis.call('ZCARD', RUN .. 's:delayed')
  local new = math.max(math.min(bound - open, ready - begun), 0)
  return begun + new + votes, new, votes
end

-- True while the run is being cancelled: no lease is extended, and no result is taken.
local function is_cancelling()
  return redis.call('HEXISTS', KEYS[1], 'cancelling') == 1
end

-- The document of a live lease, or of one that was committed last: id, envelope; or nothing.
local function find(lease)
  local id = redis.call('HGET', RUN .. 'leases', lease)
  if id then
    return id, read(id)
  end
end

-- Removes workers whose latest heartbeat is older than `after`, at most so many in one step.
local function remove_expired(now, after)
  for _, worker in ipairs(redis.call('ZRANGEBYSCORE', RUN .. 'seen', '-inf', '(' .. int(now - after), 'LIMIT', 0, 1024)) do
    redis.call('HDEL', RUN .. 'reports', worker)
    redis.call('SREM', RUN .. 'drain', worker)
    redis.call('ZREM', RUN .. 'seen', worker)
  end
end
