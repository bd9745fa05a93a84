#!lua flags=allow-oom
-- reserve: may this agent have a call made that is paid for? What it may cost is put aside until `pay` says what it did cost.
-- KEYS[1] totals  KEYS[2] log  KEYS[3] purse  KEYS[4] reservations
-- ARGV[1] who  ARGV[2] note  ARGV[3] ticket  ARGV[4] lease ms  ARGV[5] tokens it may use  ARGV[6] micro-dollars it may cost
--     ARGV[7] most tokens  ARGV[8] most micro-dollars, each '': no limit
-- Returns {'reserved'} | {'held' | 'broke', 'tokens' | 'money', spent, reserved, limit}: held may have room when a call under way has ended
local purse, ticket, lease = KEYS[3], ARGV[3], tonumber(ARGV[4])

-- Whose holder is gone may have been billed all the same: it counts as spent.
for _, gone in ipairs(due(KEYS[4], purse, 'r:')) do
  local tokens, micro = string.match(redis.call('HGET', purse, 'r:' .. gone) or '', '^%d+ (%d+) (%d+)$')
  if tokens then
    redis.call('HINCRBY', purse, 'tokens', tokens); redis.call('HINCRBY', purse, 'money', micro)
    redis.call('HINCRBY', purse, 'held_tokens', 0 - tokens); redis.call('HINCRBY', purse, 'held_money', 0 - micro)
    redis.call('HDEL', purse, 'r:' .. gone)
  end
end
if not redis.call('ZSCORE', KEYS[4], ticket) then                  -- else a lost reply, or it is still under way
  local alone = redis.call('ZCARD', KEYS[4]) == 0
  for what, of in pairs({tokens = {ARGV[5], ARGV[7]}, money = {ARGV[6], ARGV[8]}}) do
    local need, cap = tonumber(of[1]), tonumber(of[2])
    if cap then
      local spent, held = unpack(redis.call('HMGET', purse, what, 'held_' .. what))
      spent, held = num(spent), num(held)
      if spent >= cap then return {'broke', what, spent, held, cap} end
      -- The last one need not fit: else an agent could never spend what is left. It is the one call by which a budget is exceeded.
      if not alone and spent + held + need > cap then return {'held', what, spent, held, cap} end
    end
  end
  redis.call('HINCRBY', purse, 'held_tokens', ARGV[5]); redis.call('HINCRBY', purse, 'held_money', ARGV[6])
  redis.call('HSET', purse, 'r:' .. ticket, string.format('%.0f %s %s', lease, ARGV[5], ARGV[6]))
end
redis.call('ZADD', KEYS[4], now + lease, ticket)
return {'reserved'}
