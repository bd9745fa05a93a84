#!lua flags=allow-oom
-- pay: what a call did cost, instead of what was put aside for it. Repeated, or after its lease, it changes nothing: then the latter counts.
-- KEYS[1] totals  KEYS[2] log  KEYS[3] purse  KEYS[4] reservations
-- ARGV[1] who  ARGV[2] note  ARGV[3] ticket  ARGV[4] tokens  ARGV[5] micro-dollars
-- Returns {'paid'}
-- 0 - x, not -x: the latter makes -0 of 0, which Redis 7.0 takes for no integer.
local purse, field = KEYS[3], 'r:' .. ARGV[3]
local tokens, micro = string.match(redis.call('HGET', purse, field) or '', '^%d+ (%d+) (%d+)$')
redis.call('ZREM', KEYS[4], ARGV[3])
if tokens then
  redis.call('HDEL', purse, field)
  redis.call('HINCRBY', purse, 'held_tokens', 0 - tokens); redis.call('HINCRBY', purse, 'held_money', 0 - micro)
  redis.call('HINCRBY', purse, 'tokens', ARGV[4]); redis.call('HINCRBY', purse, 'money', ARGV[5])
end
return {'paid'}
