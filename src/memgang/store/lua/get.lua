#!lua flags=no-writes,allow-oom
-- get: a body with what is needed to read it, by the server's own clock; an expired object is never handed out.
-- KEYS[1] totals  KEYS[2] log  KEYS[3] record  KEYS[4] body
-- ARGV[1] who  ARGV[2] note
-- Returns {'here', type, size, expires, meta, cost, body} | {'parts', type, size, expires, meta, cost, number of parts} | {'expired'} | {'lost'} | {'absent'}
local kind, size, expires, ttl, meta, cost = unpack(redis.call('HMGET', KEYS[3], 'type', 'size', 'expires', 'ttl', 'meta', 'cost'))
if not size then return {'absent'} end
expires = num(expires)
if expires > now + num(ttl) then expires = now + num(ttl) end     -- the clock stepped back; the sweep mends the record
if expires > 0 and expires <= now then return {'expired'} end
local form = redis.call('TYPE', KEYS[4]).ok
if form == 'string' then return {'here', kind, tonumber(size), expires, meta, cost, redis.call('GET', KEYS[4])} end
if form == 'hash' then return {'parts', kind, tonumber(size), expires, meta, cost, redis.call('HLEN', KEYS[4])} end
return {'lost'}
