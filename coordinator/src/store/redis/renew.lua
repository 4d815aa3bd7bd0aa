-- Extends live leases and stores their checkpoints; not those of a run that is being cancelled.
-- ARGV: clock offset, time to live, then for each lease: lease id, progress, number of the tokens before these, number of these,
--       the tokens, the checkpoint after them; the last two are '' without a checkpoint
-- Returns the lease ids that are not live, those that were cancelled, and those whose checkpoint has not the tokens before.

local now, ttl = clock(), tonumber(ARGV[2])
local lost, cancelled, unsaved, cancelling = {}, {}, {}, is_cancelling()
for i = 3, #ARGV, 6 do
  local lease, progress, from, count, tokens, rest = unpack(ARGV, i, i + 5)
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
    if rest ~= '' and not save_tokens(id, tonumber(from), tonumber(count), tokens, rest) then
      unsaved[#unsaved + 1] = lease
    end
    write(id, doc, held)
  else
    lost[#lost + 1] = lease
  end
end
return { lost, cancelled, unsaved }
