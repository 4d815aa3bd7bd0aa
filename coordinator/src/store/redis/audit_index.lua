-- Compares entries of one index with the documents that they name.
-- ARGV: clock offset, 1 to repair, index, then the document ids found in it
-- Returns how many entries were removed, and one sentence for each that should not be there.

local repair, index = ARGV[2] == '1', ARGV[3]
local repaired, faults = 0, {}
for i = 4, #ARGV do
  local id = ARGV[i]
  -- It may have left since it was found.
  if redis.call('ZSCORE', RUN .. index, id) then
    local doc = read(id)
    if not doc or not places(doc)[index] then
      faults[#faults + 1] = 'document ' .. id .. ' should not be in ' .. index
      if repair then
        redis.call('ZREM', RUN .. index, id)
        repaired = repaired + 1
      end
    end
  end
end
return { repaired, faults }
