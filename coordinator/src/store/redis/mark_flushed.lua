-- Marks accepted documents as held by a shard.
-- ARGV: clock offset, then document ids
-- Returns the ids of those that are not accepted, or nil without the run.

if redis.call('EXISTS', KEYS[1]) == 0 then
  return false
end

local ignored = {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local doc = read(id)
  if not doc or doc.state ~= 'accepted' then
    ignored[#ignored + 1] = id
  elseif not doc.flushed then
    local marked = copy(doc)
    marked.flushed = '1'
    change(id, doc, marked)
  end
end
return ignored
