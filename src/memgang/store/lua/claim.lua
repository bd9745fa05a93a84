#!lua
-- claim: who computes this call?
-- KEYS[1] totals  KEYS[2] log  KEYS[3] flight, also the channel  KEYS[4] chunks
-- ARGV[1] who  ARGV[2] note  ARGV[3] owner  ARGV[4] inc  ARGV[5] lease ms  ARGV[6] most attempts  ARGV[7] hold ms
--     ARGV[8] ARGV[9] answer and fence found unusable by the caller, else '' ''
--     ARGV[10] ms after its end for which the caller would take an old answer; above 0, one that is computed anew is kept
-- Returns {'answered', id, fence, expires, validator, usage, who led} | {'failed', error, fence, ms, old...} | {'backoff', ms, fence, old...}
--       | {'follow', ms, fence, inc, who leads, old...} | {'claimed', fence, ms, 'new' | 'taken' | 'replay', attempt, old...}
--     where old... is nothing, or an old answer that the caller would take: the six words that follow 'answered'
local f, lease, keep = KEYS[3], tonumber(ARGV[5]), num(ARGV[10])
local state, owner, inc, fence, till, span, attempt, answer, expires, ttl, valid, resume, pause, err, usage, by, oldfence, oldby = unpack(redis.call('HMGET',
  f, 'state', 'owner', 'inc', 'fence', 'until', 'lease', 'attempt', 'answer', 'expires', 'ttl', 'valid', 'resume', 'pause', 'error', 'usage', 'who',
  'oldfence', 'oldwho'))

-- The answer, also one kept while it is computed anew: then the fence and the leader it was committed with stand beside it.
local afence, aby = fence, by
if state ~= 'done' then afence, aby = oldfence, oldby end
local refused = answer == ARGV[8] and afence == ARGV[9]
local old = {}
if answer and afence then
  expires = num(expires)                                          -- 0: never
  if expires > now + num(ttl) then                                -- the clock stepped back
    expires = now + num(ttl); redis.call('HSET', f, 'expires', expires) end
  local it = {answer, afence, expires, valid or '', usage or '', aby or ''}
  if not refused and (expires == 0 or expires > now) then return {'answered', unpack(it)} end
  if not refused and keep > 0 and expires + keep > now then old = it end
end

local rest = num(resume) - now                                    -- after an error or a failed attempt
if rest > num(pause) then rest = num(pause); redis.call('HSET', f, 'resume', now + rest) end
if rest > 0 and state == 'error' then return {'failed', err, fence, rest, unpack(old)} end
if rest > 0 and state == 'running' then return {'backoff', rest, fence, unpack(old)} end

if state == 'running' then
  local left = num(till) - now
  if left > num(span) then left = num(span); redis.call('HSET', f, 'until', now + left) end
  if left > 0 and owner == ARGV[3] then return {'claimed', fence, left, 'replay', num(attempt), unpack(old)} end   -- a lost reply
  if left > 0 then return {'follow', left, fence, inc, by or '', unpack(old)} end
end

local n = (state == 'running') and num(attempt) + 1 or 1
if n > tonumber(ARGV[6]) then
  err = err or '{"class":"transient","code":"attempts_exhausted"}'
  redis.call('HSET', f, 'state', 'error', 'error', err, 'resume', now + 1000, 'pause', 1000)
  log('exhausted', name(f), fence); wake(f, 'failed')
  return {'failed', err, fence, 1000, unpack(old)}
end
-- Above every fence of this flight, and above those of a lost record; exact below 2^53, until 2255.
local new = string.format('%.0f', math.max(num(fence) + 1, T[1] * 1000000 + T[2]))
redis.call('HSET', f, 'state', 'running', 'owner', ARGV[3], 'inc', ARGV[4], 'who', ARGV[1], 'fence', new, 'until', now + lease,
  'lease', lease, 'hold', ARGV[7], 'attempt', n, 'since', now, 'streamed', 0)
local life = math.max(20 * lease, 2 * tonumber(ARGV[7]), 600000)
if state then                                                     -- of an earlier attempt or answer
  if answer and afence and (keep > 0 or (state ~= 'done' and not refused)) then   -- kept, and served until its end
    redis.call('HSET', f, 'oldfence', afence, 'oldwho', aby or '')
    if expires > 0 then life = math.max(life, expires + keep - now) end
  else
    redis.call('HDEL', f, 'answer', 'expires', 'ttl', 'valid', 'usage', 'oldfence', 'oldwho')
  end
  redis.call('HDEL', f, 'resume', 'pause')
  if n == 1 then redis.call('HDEL', f, 'error') end               -- else kept: the last attempt's error
end
redis.call('UNLINK', KEYS[4])                                     -- also of a flight that is gone: a step of the clock can part them
redis.call('PEXPIRE', f, life)                                    -- collects garbage, decides nothing
log(state == 'running' and 'taken' or 'claimed', name(f), new)
if state == 'running' then
  redis.call('HINCRBY', KEYS[1], 'takeovers', 1); wake(f, 'taken')
  return {'claimed', new, lease, 'taken', n, unpack(old)}
end
return {'claimed', new, lease, 'new', n, unpack(old)}
