-- Extends live leases and stores their checkpoints; not those of a run that is being cancelled.
-- ARGV: clock offset, time to live, then for each lease: lease id, progress, checkpoint or ''
-- Returns the lease ids that are not live, and those that were cancelled.

local now, ttl = clock(), tonumber(ARGV[2])
local lost, cancelled, cancelling = {}, {}, is_cancelling()
for i = 3, #ARGV, 3 do
  local lease, progress, checkpoint = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local id, doc = find(lease)
  if doc and (cancelling and doc.lease == lease or doc.last == lease and doc.state == 'cancelled') then
    cancelled[#cancelled + 1] = lease
  elseif doc and doc.lease == lease then
    local held = copy(doc)
    held.expires_ms = int(now + ttl)
    if tonumber(progress) > tonumber(doc.progress) then
      held.progress = progress
      held.progress_ms = int(now)
    end
    if checkpoint ~= '' then
      set_checkpoint(id, checkpoint)
    end
    write(id, doc, held)
  else
    lost[#lost + 1] = lease
  end
end
return { lost, cancelled }
