#!lua flags=no-writes,allow-oom
-- get: a body with what is needed to read it, by the server's own clock; an expired object is never handed out.
-- KEYS[1] totals  KEYS[2] log  KEYS[3] record  KEYS[4] body
-- ARGV[1] who  ARGV[2] note  ARGV[3] most bytes to come along
-- Returns {'here', type, size, expires, meta, cost, body} | {'parts', type, size, expires, meta, cost, number of parts, 0: one string}
--       | {'elsewhere', type, size, expires, meta, cost, host} | {'expired'} | {'lost'} | {'absent'}
local kind, size, expires, ttl, meta, cost = unpack(redis.call('HMGET', KEYS[3], 'type', 'size', 'expires', 'ttl', 'meta', 'cost'))
if not size then return {'absent'} end
expires = num(expires)
if expires > now + num(ttl) then expires = now + num(ttl) end     -- the clock stepped back; the sweep mends the record
if expires > 0 and expires <= now then return {'expired'} end
local form = redis.call('TYPE', KEYS[4]).ok
if form == 'string' and tonumber(size) > tonumber(ARGV[3]) then return {'parts', kind, tonumber(size), expires, meta, cost, 0} end
if form == 'string' then return {'here', kind, tonumber(size), expires, meta, cost, redis.call('GET', KEYS[4])} end
if form == 'hash' then return {'parts', kind, tonumber(size), expires, meta, cost, redis.call('HLEN', KEYS[4])} end
local fields = redis.call('HGETALL', KEYS[3])                     -- rare, and a record has some 20
for i = 1, #fields, 2 do
  local host = string.match(fields[i], '^loc:(.+)$')
  if host then return {'elsewhere', kind, tonumber(size), expires, meta, cost, host} end
end
return {'lost'}
