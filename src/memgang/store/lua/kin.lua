#!lua flags=no-writes,allow-oom
-- kin: what objects were made from, for a walk along the lineage.
-- KEYS[1] totals  KEYS[2] log  [3..] record, pins of each object, at most 128
-- ARGV[1] who  ARGV[2] note
-- Returns {'kin', {parents, size, call, meta, pinned 0 | 1, parents left out 0 | 1} of each, {} where it is gone}
local out = {'kin'}
for i = 3, #KEYS, 2 do
  local size, parents, more, call, meta, over = unpack(redis.call('HMGET', KEYS[i], 'size', 'parents', 'more', 'call', 'meta', 'over'))
  if size then
    for field = 1, num(more) do parents = (parents or '') .. ' ' .. (redis.call('HGET', KEYS[i], 'parents' .. field) or '') end
    local pinned = 0
    for _, deadline in ipairs(redis.call('HVALS', KEYS[i + 1])) do if num(deadline) > now then pinned = 1 end end
    out[#out + 1] = {parents or '', tonumber(size), call or '', meta or '', pinned, over and 1 or 0}
  else out[#out + 1] = {} end
end
return out
