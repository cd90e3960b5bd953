-- Loads an account after a miss: its balance if that is not older than what is here or was published
-- meanwhile, and the holds that PostgreSQL knows.
-- KEYS: marker, balance, live holds, floor, known holds...
-- ARGV: epoch, life (ms), projection, whether every live hold is here or brought along ('all' or
--       'besides'), or more calls follow that bring the rest ('more'), then of each known hold: id, credits, granted at, expires at, counts until,
--       fingerprint, state, time to keep (ms)
-- Answers 'done' or 'lost'.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 'lost'
end
local version = tonumber(string.match(ARGV[3], '^%d+'))
local floor = redis.call('GET', KEYS[4])
if floor and tonumber(floor) > version then
    return 'done'
end
local function count_live()
    local live = redis.call('ZRANGE', KEYS[3], 0, -1, 'WITHSCORES')
    local held = 0
    for index = 1, #live, 2 do
        held = held + tonumber(string.match(live[index], '^%d+'))
    end
    return held, live[2] or ''
end

local here = redis.call('HMGET', KEYS[2], 'projection', 'held')
if ARGV[4] == 'besides' and tonumber(here[2]) ~= count_live() then
    -- Live holds were lost here (evicted, say): the next miss says that all of them have to come along.
    redis.call('DEL', KEYS[2])
    return 'done'
end

for index = 5, #KEYS do
    local base = 5 + (index - 5) * 8
    local id, credits, granted_at, expires_at, counts_until, fingerprint, state, keep =
        unpack(ARGV, base, base + 7)
    local known = redis.call('GET', KEYS[index])
    -- One that has ended here since it was read there is not brought back, and one that was renewed
    -- here is the longer one.
    local live_until = tonumber(string.match(known or '', '^%d+ %d+ (%d+) %d+ %S+ live$'))
    if not known or (live_until and (state ~= 'live' or live_until <= tonumber(expires_at))) then
        redis.call('SET', KEYS[index],
            table.concat({credits, granted_at, expires_at, counts_until, fingerprint, state}, ' '), 'PX', keep)
        if known then
            redis.call('ZREM', KEYS[3], string.match(known, '^%d+') .. '|' .. id)
        end
        if state == 'live' then
            redis.call('ZADD', KEYS[3], counts_until, credits .. '|' .. id)
        end
    end
end

if ARGV[4] == 'more' then
    redis.call('PEXPIRE', KEYS[3], ARGV[2])
    return 'done'
end
local held, next_end = count_live()
redis.call('HSET', KEYS[2], 'held', string.format('%.0f', held), 'next', next_end)
local here_version = tonumber(string.match(here[1] or '', '^%d+'))
if not here_version or here_version <= version then
    redis.call('HSET', KEYS[2], 'projection', ARGV[3])
end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('PEXPIRE', KEYS[3], ARGV[2])
return 'done'
