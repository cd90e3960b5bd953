-- Ends a live hold without a charge (R-29). One that is not here is marked as ended, so that a fill
-- under way does not bring it back.
-- KEYS: marker, balance, live holds, this hold
-- ARGV: epoch, hold id, the mark's life (ms)
-- Answers 'done' or 'lost'.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 'lost'
end
local known = redis.call('GET', KEYS[4])
if not known then
    redis.call('SET', KEYS[4], '0 0 0 0 - released', 'PX', ARGV[3])
    return 'done'
end
local credits, rest = string.match(known, '^(%d+) (.*) live$')
if not credits then
    return 'done'
end
redis.call('SET', KEYS[4], credits .. ' ' .. rest .. ' released', 'KEEPTTL')
local was_counted = redis.call('ZREM', KEYS[3], credits .. '|' .. ARGV[2]) == 1
local held = tonumber(redis.call('HGET', KEYS[2], 'held'))
if held and was_counted then
    redis.call('HSET', KEYS[2], 'held', string.format('%.0f', held - tonumber(credits)))
    if redis.call('EXISTS', KEYS[3]) == 0 then
        redis.call('HSET', KEYS[2], 'next', '')
    end
end
return 'done'
