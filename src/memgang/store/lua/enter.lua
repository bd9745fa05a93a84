#!lua flags=allow-oom
-- enter: may a request of this agent come in? It is counted and given a place, or told when to come back. Nobody stands in a line.
-- KEYS[1] totals  KEYS[2] log  KEYS[3] window  KEYS[4] places
-- ARGV[1] who  ARGV[2] note  ARGV[3] ticket  ARGV[4] lease ms  ARGV[5] most requests, 0: no limit  ARGV[6] window ms  ARGV[7] most places, 0: no limit
-- Returns {'entered'} | {'wait', ms, 'requests' | 'places', how many there are}
local ticket, lease, most, span, places = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])

-- After a step of the clock no place is held for longer than it was given for.
for _, late in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '(' .. now + lease, '+inf')) do
  redis.call('ZADD', KEYS[4], now + lease, late)
end
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now)
local known = redis.call('ZSCORE', KEYS[4], ticket)                -- a lost reply, or it is still under way
if not known then
  local taken = redis.call('ZCARD', KEYS[4])
  if places > 0 and taken >= places then return {'wait', 1000, 'places', taken} end
  if most > 0 then                                                -- requests by grain of time, a 256th of the window, as if all began at its end
    local grain, used, first = math.max(math.floor(span / 256), 1), 0, nil
    local here, flat = math.ceil(now / grain) * grain, redis.call('HGETALL', KEYS[3])
    for i = 1, #flat, 2 do
      local at, count = tonumber(flat[i]), tonumber(flat[i + 1])
      if at > here then                                           -- the clock stepped back: as if it had been now
        redis.call('HDEL', KEYS[3], flat[i]); redis.call('HINCRBY', KEYS[3], here, count); at = here
      end
      if at <= now - span then redis.call('HDEL', KEYS[3], flat[i])
      else used = used + count; first = math.min(first or at, at) end
    end
    if used >= most then return {'wait', (first or here) + span - now, 'requests', used} end
    redis.call('HINCRBY', KEYS[3], here, 1); redis.call('PEXPIRE', KEYS[3], 2 * span)
  end
end
redis.call('ZADD', KEYS[4], now + lease, ticket); redis.call('PEXPIRE', KEYS[4], 2 * lease)
return {'entered'}
