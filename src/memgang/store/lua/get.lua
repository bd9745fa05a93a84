#!lua flags=no-writes,allow-oom
-- get: bodies with what is needed to read them, by the server's own clock; an expired object is never handed out.
-- KEYS[1] totals  KEYS[2] log  [3..] record, body of each object, at most 64
-- ARGV[1] who  ARGV[2] note  ARGV[3] most bytes of all: a body of more does not come along, and what would be more is left for another time
-- Returns {'got', of each {'here', type, size, expires, meta, cost, body} | {'parts', type, size, expires, meta, cost, number of parts, 0: one string}
--     | {'elsewhere', type, size, expires, meta, cost, host} | {'expired'} | {'lost'} | {'absent'} | {'later'}}
local most = tonumber(ARGV[3])
local left = most
local function look(record, at)
  local kind, size, expires, ttl, meta, cost = unpack(redis.call('HMGET', record, 'type', 'size', 'expires', 'ttl', 'meta', 'cost'))
  if not size then return {'absent'} end
  expires = num(expires)
  if expires > now + num(ttl) then expires = now + num(ttl) end   -- the clock stepped back; the sweep mends the record
  if expires > 0 and expires <= now then return {'expired'} end
  local form = redis.call('TYPE', at).ok
  if form == 'string' then
    if num(size) > most then return {'parts', kind, num(size), expires, meta, cost, 0} end
    if num(size) > left then return {'later'} end
    left = left - num(size)
    return {'here', kind, tonumber(size), expires, meta, cost, redis.call('GET', at)}
  end
  if form == 'hash' then return {'parts', kind, tonumber(size), expires, meta, cost, redis.call('HLEN', at)} end
  local fields = redis.call('HGETALL', record)                    -- rare, and a record has some 20
  for i = 1, #fields, 2 do
    local host = string.match(fields[i], '^loc:(.+)$')
    if host then return {'elsewhere', kind, tonumber(size), expires, meta, cost, host} end
  end
  return {'lost'}
end
local out = {'got'}
for i = 3, #KEYS, 2 do out[#out + 1] = look(KEYS[i], KEYS[i + 1]) end
return out
