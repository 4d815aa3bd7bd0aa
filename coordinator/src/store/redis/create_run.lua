-- Creates the run unless it exists.
-- ARGV: clock offset, recipe, recipe hash, seed, created_ms
-- Returns the run's hash as it is now.

if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'recipe', ARGV[2], 'recipe_hash', ARGV[3], 'seed', ARGV[4], 'created_ms', ARGV[5],
    'next_seq', '0')
end
return redis.call('HGETALL', KEYS[1])
