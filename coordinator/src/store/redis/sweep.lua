-- Takes away leases that expired or make no progress. What the indexes say is checked again in the documents.
-- ARGV: clock offset, losses after which a document fails, longest time without progress, most documents to touch
-- Returns for each lease taken away: document id, state after, envelope before.

local now, max_losses, no_progress, batch = clock(), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local swept = {}

local function sweep(index, last)
  local room = batch - #swept
  if room <= 0 then
    return
  end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', RUN .. index, '-inf', int(last), 'LIMIT', 0, room)) do
    local doc = read(id)
    local over = doc and doc.lease
      and (tonumber(doc.expires_ms) <= now or tonumber(doc.progress_ms) <= now - no_progress)
    if over then
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
end

sweep('q:expiry', now)
sweep('q:progress', now - no_progress)
return swept
