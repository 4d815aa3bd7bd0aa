-- Compares documents with the indexes that they belong in.
-- ARGV: clock offset, 1 to repair, then document ids
-- Returns how many of them exist, how many mismatches were repaired, and one sentence for each mismatch.

local repair = ARGV[2] == '1'
local documents, repaired, mismatches = 0, 0, {}

local function mismatch(sentence)
  mismatches[#mismatches + 1] = sentence
  if repair then
    repaired = repaired + 1
  end
  return repair
end

for i = 3, #ARGV do
  local id = ARGV[i]
  local doc = read(id)
  if doc then
    documents = documents + 1
    for index, score in pairs(index_entries(doc)) do
      local found = redis.call('ZSCORE', RUN .. index, id)
      if tonumber(found or -1) ~= score then
        if mismatch('document ' .. id .. ': expected score ' .. int(score) .. ' in ' .. index .. ', found '
          .. (found or 'none')) then
          redis.call('ZADD', RUN .. index, int(score), id)
        end
      end
    end
    for lease in pairs(leases(doc)) do
      if redis.call('HGET', RUN .. 'leases', lease) ~= id and mismatch('lease ' .. lease .. ' does not map to document '
        .. id) then
        redis.call('HSET', RUN .. 'leases', lease, id)
      end
    end
    if redis.call('EXISTS', RUN .. 'b:' .. id) == 0 then
      mismatches[#mismatches + 1] = 'document ' .. id .. ' has no body'
    end
  end
end
return { documents, repaired, mismatches }
