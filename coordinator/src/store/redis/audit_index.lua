-- Compares entries of one index with the documents that they name.
-- ARGV: clock offset, 1 to repair, index, then the document ids found in it
-- Returns how many entries were removed, and one sentence for each that should not be there.

local repair, index = ARGV[2] == '1', ARGV[3]
local repaired, mismatches = 0, {}
for i = 4, #ARGV do
  local id = ARGV[i]
  -- It may have been removed since the scan.
  if redis.call('ZSCORE', RUN .. index, id) then
    local doc = read(id)
    if not doc or not index_entries(doc)[index] then
      mismatches[#mismatches + 1] = 'document ' .. id .. ': unexpected entry in ' .. index
      if repair then
        redis.call('ZREM', RUN .. index, id)
        repaired = repaired + 1
      end
    end
  end
end
return { repaired, mismatches }
