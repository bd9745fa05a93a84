#!lua
-- put_many: record small objects that nobody has put yet, each as put does; what is otherwise is left to put.
-- KEYS[1] totals  KEYS[2] log  KEYS[3] expiry  KEYS[4] ranks  KEYS[5] listing  [6..] record, body of each object, at most 64, none twice
-- ARGV[1] who  ARGV[2] note  ARGV[3] op, one for all  ARGV[4] ttl ms  ARGV[5] cost s  ARGV[6] limit bytes, 0: none  ARGV[7] guard ms
--     ARGV[8] keep 0 | 1  ARGV[9] parents, at most 64  ARGV[10] limit bytes of what the agent was first to write, 0: none
--     [11..] media type, bytes, meta, note of each
-- Returns {'stored', expires of what is new, 'new' | 'replay' | 'left' of each: it is there already, or there is no room}
local op, ttl, seconds, limit, keep, share = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[8] == '1', num(ARGV[10])
local fresh, parents, t = ttl > 0 and now + ttl or 0, union('', ARGV[9], 127), standing(ARGV[1])
local out, new, added, listed, ends, ranks = {'stored', fresh}, {}, 0, {}, {}, {}
for i = 6, #KEYS, 2 do                                            -- all is read first: what cannot be read stops it before the first write
  local size, was = unpack(redis.call('HMGET', KEYS[i], 'size', 'op'))
  local more = added + #ARGV[2 * i]
  if was == op then out[#out + 1] = 'replay'
  elseif size or (limit > 0 and t.bytes + more > limit) or (share > 0 and t.own + more > share) then out[#out + 1] = 'left'
  else
    out[#out + 1] = 'new'
    new[#new + 1], added = i, more
  end
end
if #new == 0 then return out end
local seq = t.seq
for n, i in ipairs(new) do
  local id, a = name(KEYS[i]), 2 * i - 1
  local size = #ARGV[a + 1]
  redis.call('SET', KEYS[i + 1], ARGV[a + 1])
  redis.call('HSET', KEYS[i], 'type', ARGV[a], 'size', size, 'op', op, 'expires', fresh, 'cost', seconds, 'keep', ARGV[8],
    'guard', now + ARGV[7], 'guard_ms', ARGV[7], 'ttl', ttl, 'seen', t.evicted, 'writers', ARGV[1], 'trust', 0, 'parents', parents,
    'at', now, 'call', '', 'meta', ARGV[a + 2], 'freq', 1)
  listed[2 * n - 1], listed[2 * n], ends[2 * n - 1], ends[2 * n] = now, id, fresh, id
  if not keep then ranks[2 * n - 1], ranks[2 * n] = rank(t, 1, seconds, size), id end
  redis.call('XADD', KEYS[2], string.format('%.0f-0', seq + n), 'e', 'put', 'at', now, 'who', ARGV[1], 'id', id, 'x', op .. ' new', 'n', ARGV[a + 3])
end
redis.call('ZADD', KEYS[5], unpack(listed))
if fresh > 0 then redis.call('ZADD', KEYS[3], unpack(ends)) end
if not keep then redis.call('ZADD', KEYS[4], unpack(ranks)) end
owes(ARGV[1], added)
t.bytes, t.count, t.seq = t.bytes + added, t.count + #new, seq + #new - 1
stands(t, 'clock', t.clock)
return out
