-- Compares entries of the lease map with the documents that they name.
-- ARGV: clock offset, 1 to repair, then the lease ids found in it
-- Returns how many entries were removed, and one sentence for each that should not be there.

local repair = ARGV[2] == '1'
local repaired, mismatches = 0, {}
for i = 3, #ARGV do
  local lease = ARGV[i]
  local id, doc = find(lease)
  if id and not (doc and leases(doc)[lease]) then
    mismatches[#mismatches + 1] = 'lease ' .. lease .. ' maps to document ' .. id .. ', which has another lease'
    if repair then
      redis.call('HDEL', RUN .. 'leases', lease)
      repaired = repaired + 1
    end
  end
end
return { repaired, mismatches }
