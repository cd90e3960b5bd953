-- Ends a live hold without a charge (R-29). One that is not here is marked as ended, so that a fill
-- under way does not bring it back.
-- KEYS: balance hash, live holds, this hold
-- ARGV: hold id, the mark's life (ms)
local known = redis.call('GET', KEYS[3])
if not known then
    redis.call('SET', KEYS[3], '0 0 0 0 - released', 'PX', ARGV[2])
    return 0
end
local credits, rest = string.match(known, '^(%d+) (.*) live$')
if not credits then
    return 0
end
-- Redis takes no -0, which a hold of nothing would come to.
if redis.call('ZREM', KEYS[2], credits .. '|' .. ARGV[1]) == 1 and credits ~= '0' then
    redis.call('HINCRBY', KEYS[1], 'held', '-' .. credits)
end
redis.call('SET', KEYS[3], credits .. ' ' .. rest .. ' released', 'KEEPTTL')
return 1
