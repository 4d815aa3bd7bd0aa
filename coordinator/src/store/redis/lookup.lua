-- What a lease id means now.
-- ARGV: clock offset, lease id
-- Returns 'live' or 'committed' and the record, or 'stale'.

local id, doc = find(ARGV[2])
if not doc then
  return { 'stale' }
end
if doc.lease == ARGV[2] then
  return { 'live', record(id, doc) }
end
return { 'committed', record(id, doc) }
