#!lua flags=allow-oom
-- evict: make room; candidates come in the order of their rank.
-- KEYS[1] totals  KEYS[2] log  KEYS[3] expiry  KEYS[4] ranks  KEYS[5] listing  [6..] record, body, pins of each candidate, at most 32
-- ARGV[1] who  ARGV[2] note  ARGV[3] bytes needed  ARGV[4] the agent that was first to write what may go, '': any
-- Returns {'evicted', bytes, number of protected candidates, id of each victim ...}
local out, freed, spared, t = {'evicted', 0, 0}, 0, 0, standing(ARGV[4])
local before = num(redis.call('HGET', KEYS[1], 'evictions'))
for i = 6, #KEYS, 3 do
  if freed >= tonumber(ARGV[3]) then break end
  local id = name(KEYS[i])
  local size, keep, guard, guard_ms, writers, seen = unpack(redis.call('HMGET', KEYS[i], 'size', 'keep', 'guard', 'guard_ms', 'writers', 'seen'))
  local rank = redis.call('ZSCORE', KEYS[4], id)                  -- read or kept since the caller looked: no rank, or a higher one
  local free = size and rank and keep ~= '1' and not (num(guard) > now and num(guard) <= now + num(guard_ms))
  if ARGV[4] ~= '' and owner(writers) ~= ARGV[4] then free = false end
  if not size then redis.call('ZREM', KEYS[4], id) end
  for _, deadline in ipairs(redis.call('HVALS', KEYS[i + 2])) do if num(deadline) > now then free = false end end
  if free then
    -- The clock follows. The lowest of one agent is not the lowest of all: then by the share of the space that is the agent's, or it
    -- would make old what the others have.
    local to = tonumber(rank)
    if ARGV[4] ~= '' then to = t.clock + (to - t.clock) * t.own / math.max(t.bytes, 1) end
    t.clock, t.own, t.evicted = math.max(t.clock, to), t.own - size, t.evicted + size
    log('evicted', id, size, removed(t, KEYS[i], KEYS[i + 1], KEYS[i + 2], KEYS[3], KEYS[4], KEYS[5], size, writers, seen,
      'clock', t.clock, 'evicted_bytes', t.evicted,
      'evictions', string.format('%.0f', before + #out - 2))); freed = freed + size; out[#out + 1] = id
  elseif size and rank then spared = spared + 1 end
end
out[2], out[3] = freed, spared
return out
