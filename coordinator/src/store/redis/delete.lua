-- Deletes documents of a run, and with the last ones the run.
-- ARGV: clock offset, most documents to delete
-- Returns 'leased' if a document is leased (nothing is deleted), 'more' or 'done'.

if redis.call('EXISTS', RUN .. 's:leased') == 1 then
  return 'leased'
end
for _, id in ipairs(redis.call('ZRANGE', RUN .. 'all', 0, tonumber(ARGV[2]) - 1)) do
  local doc = read(id)
  if doc then
    for index in pairs(index_entries(doc)) do
      redis.call('ZREM', RUN .. index, id)
    end
    for lease in pairs(leases(doc)) do
      redis.call('HDEL', RUN .. 'leases', lease)
    end
  end
  redis.call('ZREM', RUN .. 'all', id)
  for _, part in ipairs({ 'd:', 'b:', 'c:', 'a:', 'h:' }) do
    redis.call('DEL', RUN .. part .. id)
  end
end
if redis.call('EXISTS', RUN .. 'all') == 1 then
  return 'more'
end
for _, name in ipairs({ 'run', 'leases', 'actions', 'totals', 'q:changes', 'q:ready', 'q:judge', 'q:delayed', 'q:expiry', 'q:progress', 'q:unflushed' }) do
  redis.call('DEL', RUN .. name)
end
return 'done'
