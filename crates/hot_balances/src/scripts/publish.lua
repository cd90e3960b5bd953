-- Takes over balances that are not older, and ends the holds that the same changes ended (R-35).
-- An account that is not loaded, or was dropped, stays so: the next miss loads it. What was read before
-- this change must not come after it: the floor says so to a fill under way.
-- KEYS: marker, then of each account: balance, live holds, floor, ended holds...
-- ARGV: epoch, floor's life (ms), how long an ended hold is known (ms), then of each account: projection, how many holds ended, and of each: id, how it ended
-- Answers 'done' or 'lost'.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 'lost'
end
local floor_life, keep_ended = ARGV[2], ARGV[3]
local key, arg = 2, 4
while key <= #KEYS do
    local balance, live, floor = KEYS[key], KEYS[key + 1], KEYS[key + 2]
    local projection, ended = ARGV[arg], tonumber(ARGV[arg + 1])
    key, arg = key + 3, arg + 2

    local freed, has_freed = 0, false
    for _ = 1, ended do
        local hold, id, how = KEYS[key], ARGV[arg], ARGV[arg + 1]
        key, arg = key + 1, arg + 2
        local known = redis.call('GET', hold)
        local credits, rest = string.match(known or '', '^(%d+) (.*) live$')
        if credits then
            if redis.call('ZREM', live, credits .. '|' .. id) == 1 then
                freed, has_freed = freed + tonumber(credits), true
            end
            redis.call('SET', hold, credits .. ' ' .. rest .. ' ' .. how, 'KEEPTTL')
        elseif not known then
            -- Marked, so that a fill under way does not bring it back, and for as long as any ended hold: no fill writes
            -- over it, and its id is not free again before.
            redis.call('SET', hold, '0 0 0 0 - ' .. how, 'PX', keep_ended)
        end
    end

    local version_text = string.match(projection, '^%d+')
    local version = tonumber(version_text)
    local published = redis.call('GET', floor)
    if not published or tonumber(published) < version then
        redis.call('SET', floor, version_text, 'PX', floor_life)
    end

    local here = redis.call('HMGET', balance, 'projection', 'held')
    local held = tonumber(here[2])
    if held and has_freed then
        redis.call('HSET', balance, 'held', string.format('%.0f', held - freed))
        if redis.call('EXISTS', live) == 0 then
            redis.call('HSET', balance, 'next', '')
        end
    end
    local here_version = tonumber(string.match(here[1] or '', '^%d+'))
    if here_version and here_version <= version then
        redis.call('HSET', balance, 'projection', projection)
    end
end
return 'done'
