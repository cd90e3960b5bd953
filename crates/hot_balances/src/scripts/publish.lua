-- Takes over a balance that is not older, and ends the holds that the same change ended (R-35).
-- An account that is not loaded, or was dropped, stays so: the next miss loads it. What was read before
-- this change must not come after it: the floor says so to a fill under way.
-- KEYS: marker, balance, live holds, floor, ended holds...
-- ARGV: epoch, projection, floor's life (ms), then of each ended hold: id, how it ended
-- Answers 'done' or 'lost'.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 'lost'
end
local freed, has_freed = 0, false
for index = 5, #KEYS do
    local known = redis.call('GET', KEYS[index])
    local credits, rest = string.match(known or '', '^(%d+) (.*) live$')
    local id, how = ARGV[2 * index - 6], ARGV[2 * index - 5]
    if credits then
        if redis.call('ZREM', KEYS[3], credits .. '|' .. id) == 1 then
            freed, has_freed = freed + tonumber(credits), true
        end
        redis.call('SET', KEYS[index], credits .. ' ' .. rest .. ' ' .. how, 'KEEPTTL')
    elseif not known then
        -- Marked, so that a fill under way does not bring it back.
        redis.call('SET', KEYS[index], '0 0 0 0 - ' .. how, 'PX', ARGV[3])
    end
end

local version = tonumber(string.match(ARGV[2], '^%d+'))
local floor = redis.call('GET', KEYS[4])
if not floor or tonumber(floor) < version then
    redis.call('SET', KEYS[4], ARGV[2]:match('^%d+'), 'PX', ARGV[3])
end

local here = redis.call('HMGET', KEYS[2], 'projection', 'held')
local held = tonumber(here[2])
if held and has_freed then
    redis.call('HSET', KEYS[2], 'held', string.format('%.0f', held - freed))
    if redis.call('EXISTS', KEYS[3]) == 0 then
        redis.call('HSET', KEYS[2], 'next', '')
    end
end
local here_version = tonumber(string.match(here[1] or '', '^%d+'))
if here_version and here_version <= version then
    redis.call('HSET', KEYS[2], 'projection', ARGV[2])
end
return 'done'
