#!lua flags=allow-oom
-- renew: the calls under way are still under way; how many share the limit.
-- KEYS[1] totals  KEYS[2] log  KEYS[3] limit  KEYS[4] places  KEYS[5] reservations  KEYS[6] sharers  KEYS[7] money
-- ARGV[1] who  ARGV[2] note  ARGV[3] lease ms  ARGV[4] sharer  ARGV[5..] tickets, at most 1000
-- Returns {'renewed', sharers seen in the last minute, this one included}
local lease = tonumber(ARGV[3])
for i = 5, #ARGV do
  redis.call('ZADD', KEYS[4], 'XX', now + lease, ARGV[i]); redis.call('ZADD', KEYS[5], 'XX', now + lease, ARGV[i])
end
redis.call('ZADD', KEYS[6], now, ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[6], '-inf', now - 60000); redis.call('ZREMRANGEBYSCORE', KEYS[6], '(' .. now, '+inf')
redis.call('PEXPIRE', KEYS[6], 120000); redis.call('PEXPIRE', KEYS[3], 600000, 'GT'); redis.call('PEXPIRE', KEYS[4], 600000)
redis.call('PEXPIRE', KEYS[5], 604800000); redis.call('PEXPIRE', KEYS[7], 604800000)
return {'renewed', redis.call('ZCARD', KEYS[6])}
