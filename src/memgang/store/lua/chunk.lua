#!lua
-- chunk: append to the stream of the running attempt.
-- KEYS[1] totals  KEYS[2] log  KEYS[3] flight, also the channel  KEYS[4] chunks
-- ARGV[1] who  ARGV[2] note  ARGV[3] owner  ARGV[4] fence  ARGV[5] seq from 1  ARGV[6] kind: head | data | end  ARGV[7] bytes  ARGV[8] limit
--     ARGV[9] wake 0 | 1
-- Returns {'written'} | {'lost', newest fence} | {'gap', last seq} | {'conflict'} | {'full', bytes so far}
local f, seq = KEYS[3], tonumber(ARGV[5])
local held, _, newest = holds(f, ARGV[3], ARGV[4])
if not held or redis.call('HGET', f, 'until') == '0' then return {'lost', newest} end
local tail = redis.call('XREVRANGE', KEYS[4], '+', '-', 'COUNT', 1)[1]
local last = tail and tonumber(string.match(tail[1], '^%d+')) or 0
if seq <= last then                                               -- a repeat after a lost reply
  local old = redis.call('XRANGE', KEYS[4], seq .. '-0', seq .. '-0')[1]
  return {(old and old[2][2] == ARGV[6] and old[2][4] == ARGV[7]) and 'written' or 'conflict'}
end
if seq > last + 1 then return {'gap', last} end
local so_far = num(redis.call('HGET', f, 'streamed'))
if ARGV[6] == 'data' and so_far + #ARGV[7] > tonumber(ARGV[8]) then return {'full', so_far} end
redis.call('XADD', KEYS[4], seq .. '-0', 'k', ARGV[6], 'd', ARGV[7])
redis.call('HINCRBY', f, 'streamed', #ARGV[7])
if seq == 1 then redis.call('PEXPIRE', KEYS[4], math.max(redis.call('PTTL', f), 1)) end   -- never outlives its flight
if ARGV[9] == '1' then wake(f, 'chunk') end
return {'written'}
