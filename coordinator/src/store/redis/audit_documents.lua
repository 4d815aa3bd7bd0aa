-- Compares documents with the indexes that they belong in.
-- ARGV: clock offset, 1 to repair, then document ids
-- Returns how many of them exist, how many faults were repaired, and one sentence a fault.

local repair = ARGV[2] == '1'
local documents, repaired, faults = 0, 0, {}

local function fault(sentence)
  faults[#faults + 1] = sentence
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
    for index, score in pairs(places(doc)) do
      local found = redis.call('ZSCORE', RUN .. index, id)
      if tonumber(found or -1) ~= score then
        if fault('document ' .. id .. ' should be at ' .. int(score) .. ' in ' .. index .. ', is at '
          .. (found or 'no place')) then
          redis.call('ZADD', RUN .. index, int(score), id)
        end
      end
    end
    for lease in pairs(leases(doc)) do
      if redis.call('HGET', RUN .. 'leases', lease) ~= id and fault('lease ' .. lease .. ' does not lead to document '
        .. id) then
        redis.call('HSET', RUN .. 'leases', lease, id)
      end
    end
    if redis.call('EXISTS', RUN .. 'b:' .. id) == 0 then
      faults[#faults + 1] = 'document ' .. id .. ' has lost its body'
    end
  end
end
return { documents, repaired, faults }
