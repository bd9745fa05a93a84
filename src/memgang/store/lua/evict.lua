#!lua flags=allow-oom
-- evict: make room; candidates come in the order of their rank.
-- KEYS[1] totals  KEYS[2] log  KEYS[3] expiry  KEYS[4] ranks  KEYS[5] listing  [6..] record, body, pins of each candidate, at most 32
-- ARGV[1] who  ARGV[2] note  ARGV[3] bytes needed
-- Returns {'evicted', bytes, number of protected candidates, id of each victim ...}
local out, freed, spared = {'evicted', 0, 0}, 0, 0
for i = 6, #KEYS, 3 do
  if freed >= tonumber(ARGV[3]) then break end
  local id = name(KEYS[i])
  local size, keep, guard, guard_ms = unpack(redis.call('HMGET', KEYS[i], 'size', 'keep', 'guard', 'guard_ms'))
  local rank = redis.call('ZSCORE', KEYS[4], id)                  -- read or kept since the caller looked: no rank, or a higher one
  local free = size and rank and keep ~= '1' and not (num(guard) > now and num(guard) <= now + num(guard_ms))
  if not size then redis.call('ZREM', KEYS[4], id) end
  for _, deadline in ipairs(redis.call('HVALS', KEYS[i + 2])) do if num(deadline) > now then free = false end end
  if free then
    redis.call('UNLINK', KEYS[i], KEYS[i + 1], KEYS[i + 2])
    redis.call('ZREM', KEYS[3], id); redis.call('ZREM', KEYS[4], id); redis.call('ZREM', KEYS[5], id)
    redis.call('HINCRBY', KEYS[1], 'bytes', 0 - size); redis.call('HINCRBY', KEYS[1], 'count', -1)
    if tonumber(rank) > num(redis.call('HGET', KEYS[1], 'clock')) then redis.call('HSET', KEYS[1], 'clock', rank) end
    log('evicted', id, size); freed = freed + size; out[#out + 1] = id
  elseif size and rank then spared = spared + 1 end
end
out[2], out[3] = freed, spared
return out
