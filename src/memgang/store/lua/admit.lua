#!lua flags=allow-oom
-- admit: may this call of a language model begin? It is given all it needs at once, or nothing and a time to wait.
-- KEYS[1] totals  KEYS[2] log  KEYS[3] limit, also the channel  KEYS[4] window  KEYS[5] places  KEYS[6] line  KEYS[7] money  KEYS[8] reservations
-- ARGV[1] who  ARGV[2] note  ARGV[3] ticket  ARGV[4] lease ms  ARGV[5] most places  ARGV[6] most requests  ARGV[7] most tokens, each 0: no limit
--     ARGV[8] window ms  ARGV[9] tokens it will use  ARGV[10] most micro-dollars of all  ARGV[11] most of one agent, each '': no limit
--     ARGV[12] micro-dollars it may cost  ARGV[13] payer  ARGV[14] agent, '': not counted by agent  ARGV[15] what the payer has paid in all  ARGV[16] for this agent in all
-- Returns {'admitted', left to spend or -1} | {'wait', ms, why: paused | places | requests | tokens | money | line}, money where it waits for its own
--       | {'broke', 'all' | 'agent', paid, reserved, limit}
local limit, ticket, lease = KEYS[3], ARGV[3], tonumber(ARGV[4])
local most_places, most_requests, most_tokens, span = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local tokens, cost, agent = tonumber(ARGV[9]), tonumber(ARGV[12]), ARGV[14]

local function out_of_line()
  redis.call('ZREM', KEYS[6], ticket); redis.call('HDEL', limit, 'w:' .. ticket)
  if redis.call('ZCARD', KEYS[6]) > 0 then wake(limit, 'moved') end
end

-- Money first: what a payer says it has paid only grows, so that a repeat adds nothing, and a server that has
-- lost its data learns it again from whoever is still at work.
local left = -1
if ARGV[10] ~= '' or ARGV[11] ~= '' then
  paid(KEYS[7], ARGV[13], agent, tonumber(ARGV[15]), tonumber(ARGV[16]))
  for _, gone in ipairs(due(KEYS[8], KEYS[7], 'r:')) do           -- its holder is gone; the call may have been billed all the same
    local micro, of = moved(KEYS[7], 'r:' .. gone, 'held', 'lost')
    if micro then redis.call('HSET', KEYS[7], 'l:' .. gone, '0 ' .. micro .. ' ' .. of) end
  end
end
if redis.call('ZSCORE', KEYS[5], ticket) then return {'admitted', left} end   -- a lost reply

local wait, why = 0, ''
local function hold_on(ms, what) if ms > wait then wait, why = ms, what end end

-- Who waits for money that its own purse or agent has reserved could begin with nothing else: the line is not held up by it,
-- but for those who would spend that same money. It keeps its place in the line for when the money is there.
local purse, own = name(KEYS[7]), ''
for i, cap in ipairs({ARGV[10], ARGV[11]}) do
  if cap ~= '' then
    local whose = i == 2 and ':' .. agent or ''
    local spent, lost, held = unpack(redis.call('HMGET', KEYS[7], 'paid' .. whose, 'lost' .. whose, 'held' .. whose))
    spent, held, cap = num(spent) + num(lost), num(held), tonumber(cap)
    if spent + cost > cap then
      out_of_line()
      return {'broke', i == 2 and 'agent' or 'all', spent, held, cap} end
    if spent + held + cost > cap then                             -- what is reserved may turn out cheaper
      hold_on(2000, 'money'); own = purse .. whose
    end
    if left < 0 or cap - spent - held - cost < left then left = math.max(cap - spent - held - cost, 0) end
  end
end

local pause, pause_span, allowed = unpack(redis.call('HMGET', limit, 'pause', 'pause_span', 'allowed'))
local rest = num(pause) - now
if rest > num(pause_span) then rest = num(pause_span); redis.call('HSET', limit, 'pause', now + rest) end
hold_on(rest, 'paused')

for _, gone in ipairs(due(KEYS[5], limit, 'b:')) do redis.call('HDEL', limit, 'b:' .. gone) end
local places = tonumber(allowed or most_places)
if most_places > 0 and places > most_places then places = most_places end
if places > 0 and redis.call('ZCARD', KEYS[5]) >= places then     -- woken when one ends; when its holder died, by its lease
  local first = redis.call('ZRANGE', KEYS[5], 0, 0, 'WITHSCORES')
  hold_on(math.min(math.max(tonumber(first[2]) - now, 50), 2000), 'places')
end

-- The window: how many requests and tokens began in each grain of time, a grain being a 256th of the window and counted
-- as if all had begun at its end.
local grain, counts, used, spent = math.max(math.floor(span / 256), 1), {}, 0, 0
local here = math.ceil(now / grain) * grain
if most_requests > 0 or most_tokens > 0 then
  local flat = redis.call('HGETALL', KEYS[4])
  for i = 1, #flat, 2 do
    local at, r, t = tonumber(flat[i]), string.match(flat[i + 1], '^(%d+) (%d+)$')
    if at > here then                                             -- the clock stepped back: as if it had been now
      local hr, ht = string.match(redis.call('HGET', KEYS[4], here) or '0 0', '^(%d+) (%d+)$')
      redis.call('HDEL', KEYS[4], flat[i]); redis.call('HSET', KEYS[4], here, string.format('%.0f %.0f', hr + r, ht + t))
      at = here
    end
    if at <= now - span then redis.call('HDEL', KEYS[4], flat[i])
    else counts[#counts + 1] = {at, tonumber(r), tonumber(t)}; used = used + r; spent = spent + t end
  end
  table.sort(counts, function(a, b) return a[1] < b[1] end)
  for _, c in ipairs(counts) do
    local many = most_requests > 0 and used >= most_requests
    local much = most_tokens > 0 and spent > 0 and spent + tokens > most_tokens
    if not many and not much then break end
    hold_on(c[1] + span - now, many and 'requests' or 'tokens')
    used = used - c[2]; spent = spent - c[3]
  end
end

local ahead = false
for _, other in ipairs(redis.call('ZRANGE', KEYS[6], 0, -1)) do
  if other == ticket then break end
  local till, of = string.match(redis.call('HGET', limit, 'w:' .. other) or '', '^(%d+) ?(.*)$')
  if num(till) >= now and num(till) <= now + 120000 then
    if of == '' then ahead = true; break end
    if left >= 0 and (of == purse or of == purse .. ':' .. agent) then
      ahead = true
      if own == '' then own = of end                              -- and those behind do not wait for us
    end
  else
    redis.call('ZREM', KEYS[6], other); redis.call('HDEL', limit, 'w:' .. other)   -- it did not ask again in time
  end
end

if wait > 0 or ahead then
  if wait == 0 then wait, why = 2000, 'line' end
  if own ~= '' and why ~= 'paused' then why = 'money' end
  if wait > 30000 then wait = 30000 end
  redis.call('ZADD', KEYS[6], 'NX', redis.call('HINCRBY', limit, 'line', 1), ticket)
  redis.call('HSET', limit, 'w:' .. ticket, string.format('%.0f %s', now + wait + 3000, own))
  redis.call('PEXPIRE', KEYS[6], 600000); redis.call('PEXPIRE', limit, math.max(600000, rest + 60000))
  return {'wait', wait, why}
end

redis.call('ZADD', KEYS[5], now + lease, ticket)
redis.call('HSET', limit, 'b:' .. ticket, string.format('%.0f %.0f %.0f', lease, here, now))
if most_requests > 0 or most_tokens > 0 then
  local r, t = string.match(redis.call('HGET', KEYS[4], here) or '0 0', '^(%d+) (%d+)$')
  redis.call('HSET', KEYS[4], here, string.format('%.0f %.0f', r + 1, t + tokens))
  redis.call('PEXPIRE', KEYS[4], 2 * span)
end
if left >= 0 then
  redis.call('HSET', KEYS[7], 'r:' .. ticket, string.format('%.0f %.0f %s', lease, cost, agent))
  redis.call('HINCRBY', KEYS[7], 'held', cost)
  if agent ~= '' then redis.call('HINCRBY', KEYS[7], 'held:' .. agent, cost) end
  redis.call('ZADD', KEYS[8], now + lease, ticket)
  redis.call('PEXPIRE', KEYS[7], 604800000); redis.call('PEXPIRE', KEYS[8], 604800000)
end
redis.call('PEXPIRE', KEYS[5], 600000); redis.call('PEXPIRE', limit, 600000)
out_of_line()
return {'admitted', left}
