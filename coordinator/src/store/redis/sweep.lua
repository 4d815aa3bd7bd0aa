-- Takes away leases that expired or make no progress. What the indexes say is checked again in the documents: an entry
-- that its document does not confirm is removed, or set right, so that it does not stand before the others for ever.
-- ARGV: clock offset, losses after which a document fails, longest time without progress, most documents to touch
-- Returns for each lease taken away: document id, state after, envelope before.

local now, max_losses, no_progress, batch = clock(), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local swept = {}

-- Most pages in one call: a page of stale entries only makes room for the next one.
local PAGES = 8

-- Returns how many stale entries the page had.
local function page(index, last, room)
  local stale = 0
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', RUN .. index, '-inf', int(last), 'LIMIT', 0, room)) do
    local doc = read(id)
    local score = doc and index_entries(doc)[index]
    local over = doc and doc.lease
      and (tonumber(doc.expires_ms) <= now or tonumber(doc.progress_ms) <= now - no_progress)
    if not score then
      redis.call('ZREM', RUN .. index, id)
      stale = stale + 1
    elseif not over then
      redis.call('ZADD', RUN .. index, int(score), id)
      stale = stale + 1
    else
      local lost = copy(doc)
      end_lease(id, lost, now, 'lost', '{}')
      lost.losses = int((doc.losses or 0) + 1)
      lost.state = 'ready'
      if tonumber(lost.losses) >= max_losses then
        lost.state = 'failed'
        lost.reason = 'poison'
        lost.judge = nil
        set_checkpoint(id, '')
      end
      change(id, doc, lost)
      swept[#swept + 1] = { id, lost.state, flat(doc) }
    end
  end
  return stale
end

local function sweep(index, last)
  for _ = 1, PAGES do
    local room = batch - #swept
    if room <= 0 or page(index, last, room) == 0 then
      return
    end
  end
end

sweep('q:expiry', now)
sweep('q:progress', now - no_progress)
return swept
