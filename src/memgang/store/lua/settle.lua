#!lua flags=allow-oom
-- settle: the call has ended, or whoever waited to begin it has left.
-- KEYS[1] totals  KEYS[2] log  KEYS[3] limit, also the channel  KEYS[4] window  KEYS[5] places  KEYS[6] line  KEYS[7] money  KEYS[8] reservations
-- ARGV[1] who  ARGV[2] note  ARGV[3] ticket  ARGV[4] how: ok | unsent | limited | slow | failed  ARGV[5] tokens reserved  ARGV[6] tokens used
--     ARGV[7] ms the provider asks to wait, 0: it did not say  ARGV[8] most places, 0: no limit
--     ARGV[9] payer, '': no money is counted  ARGV[10] agent  ARGV[11] what the payer has paid in all  ARGV[12] for this agent in all
-- Returns {'settled', ms for which nobody begins}
local limit, ticket, how = KEYS[3], ARGV[3], ARGV[4]
local _, here, began = string.match(redis.call('HGET', limit, 'b:' .. ticket) or '', '^(%d+) (%d+) (%d+)$')
local allowed, ok, before, cut, strikes, pause, span = unpack(redis.call('HMGET', limit, 'allowed', 'ok', 'before', 'cut', 'strikes', 'pause', 'pause_span'))
local running = redis.call('ZCARD', KEYS[5])
local rest = math.max(math.min(num(pause) - now, num(span)), 0)

if here then                                                      -- else a repeat, or its lease had ended
  redis.call('ZREM', KEYS[5], ticket); redis.call('HDEL', limit, 'b:' .. ticket)
  local r, t = string.match(redis.call('HGET', KEYS[4], here) or '', '^(%d+) (%d+)$')
  if r then
    r = how == 'unsent' and math.max(r - 1, 0) or r
    redis.call('HSET', KEYS[4], here, string.format('%.0f %.0f', r, math.max(t - ARGV[5] + ARGV[6], 0)))
  end
  if how == 'ok' then
    redis.call('HDEL', limit, 'strikes')
    if allowed then                                               -- one more for each round of successes
      ok = num(ok) + 1
      if ok >= num(allowed) then allowed, ok = num(allowed) + 1, 0 end
      if num(allowed) >= num(before) then redis.call('HDEL', limit, 'allowed', 'ok', 'before')
      else redis.call('HSET', limit, 'allowed', allowed, 'ok', ok) end
    end
  elseif how == 'limited' or how == 'slow' then
    -- Halved once for all the calls that were under way: those that began before it say nothing new.
    if num(began) >= math.min(num(cut), now + 1) then
      local most = tonumber(ARGV[8])
      local base = allowed and num(allowed) or (most > 0 and most or running)
      redis.call('HSETNX', limit, 'before', math.max(base, 2))
      strikes = num(strikes) + 1
      redis.call('HSET', limit, 'allowed', math.max(math.floor(math.min(base, running) / 2), 1), 'ok', 0, 'cut', now + 1, 'strikes', strikes)
    end
    if how == 'limited' then
      local ms = tonumber(ARGV[7])
      if ms <= 0 then ms = math.min(500 * 2 ^ math.min(num(strikes) - 1, 6), 30000) end
      if ms > rest then
        rest = math.ceil(ms)
        redis.call('HSET', limit, 'pause', now + rest, 'pause_span', rest)
        redis.call('PEXPIRE', limit, math.max(600000, rest + 60000))
      end
    end
  end
end

if ARGV[9] ~= '' then
  if redis.call('ZREM', KEYS[8], ticket) == 1 then moved(KEYS[7], 'r:' .. ticket, 'held')
  else moved(KEYS[7], 'l:' .. ticket, 'lost') end                 -- counted as lost in the meantime: what was paid is known after all
  paid(KEYS[7], ARGV[9], ARGV[10], tonumber(ARGV[11]), tonumber(ARGV[12]))
  redis.call('PEXPIRE', KEYS[7], 604800000)
end
if redis.call('ZREM', KEYS[6], ticket) == 1 then redis.call('HDEL', limit, 'w:' .. ticket) end
if redis.call('ZCARD', KEYS[6]) > 0 then wake(limit, 'moved') end
return {'settled', rest}
