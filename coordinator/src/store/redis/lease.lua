-- Leases ready documents: open ones first, then new ones, each in order of submission.
-- ARGV: clock offset, worker, request id, time to live, the worker's model and its weights hash, then a fresh lease id
--       for each slot
-- Returns 1 and the records that this request was granted before and still holds; or 0 and the records leased now.

local worker, ttl = ARGV[2], tonumber(ARGV[4])
local request = RUN .. 'req:' .. worker .. ':' .. ARGV[3]
local now = clock()

local known = redis.call('LRANGE', request, 0, -1)
if known[1] and tonumber(known[1]) > now then
  local held = {}
  for i = 2, #known do
    local id, doc = find(known[i])
    if doc and doc.lease == known[i] then
      held[#held + 1] = record(id, doc)
    end
  end
  return { 1, held }
end

local slots = #ARGV - 6
if slots == 0 then
  return { 0, {} }
end
local room, new, votes = leasable(now, ARGV[5], ARGV[6])
if room == 0 then
  return { 0, {} }
end
local leased, granted = {}, { request, int(now + ttl) }
-- Those that wait for the judge first: they are begun.
local picked = {}
local function pick(queue, most)
  most = math.min(slots - #picked, most)
  if most > 0 then
    for _, id in ipairs(redis.call('ZRANGE', RUN .. queue, 0, most - 1)) do
      picked[#picked + 1] = { id, queue }
    end
  end
end
pick('q:judge', votes)
pick('q:ready', room - votes)
for _, entry in ipairs(picked) do
  local id, queue = entry[1], entry[2]
  local doc = read(id)
  local begun = doc and (doc.open or queue == 'q:judge')
  if not doc or doc.state ~= 'ready' then
    -- A stale entry.
    redis.call('ZREM', RUN .. queue, id)
  elseif begun or new > 0 then
    if not begun then
      new = new - 1
    end
    local lease = ARGV[7 + #leased]
    local held = copy(doc)
    grant_lease(held, lease, worker, now, now + ttl)
    held.open = '1'
    change(id, doc, held)
    granted[#granted + 1] = lease
    leased[#leased + 1] = record(id, held)
  end
end
if #leased > 0 then
  redis.call('DEL', request)
  redis.call('RPUSH', unpack(granted))
  redis.call('PEXPIRE', request, int(math.max(ttl, 1)))
end
return { 0, leased }
