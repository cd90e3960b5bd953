-- Ends a live hold without a charge (R-29).
-- KEYS: balance hash, live holds, this hold
-- ARGV: hold id
local known = redis.call('GET', KEYS[3])
local credits, rest = string.match(known or '', '^(%d+) (.*) live$')
if not credits then
    return 0
end
if redis.call('ZREM', KEYS[2], credits .. '|' .. ARGV[1]) == 1 then
    redis.call('HINCRBY', KEYS[1], 'held', '-' .. credits)
end
redis.call('SET', KEYS[3], credits .. ' ' .. rest .. ' released', 'KEEPTTL')
return 1
