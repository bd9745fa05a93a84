#!lua flags=allow-oom
-- hold: a request or a call is still under way: its place, or what is put aside for it, is kept for another lease. What is gone stays gone.
-- KEYS[1] totals  KEYS[2] log  KEYS[3] places or reservations
-- ARGV[1] who  ARGV[2] note  ARGV[3] ticket  ARGV[4] lease ms
-- Returns {'held'} | {'gone'}: given back or paid meanwhile, or its lease had ended
local lease = tonumber(ARGV[4])
-- Never made anew: a renewal may come behind the `pay` or `leave` that has overtaken it, and an ended reservation is in what was spent.
redis.call('ZADD', KEYS[3], 'XX', now + lease, ARGV[3])
redis.call('PEXPIRE', KEYS[3], 2 * lease, 'GT')                   -- reservations do not expire, and GT leaves that so
return {redis.call('ZSCORE', KEYS[3], ARGV[3]) and 'held' or 'gone'}
