-- Loads an account after a miss: its balance if that is not older than what is here or was published
-- meanwhile, and the holds that PostgreSQL knows.
-- KEYS: marker, balance, live, holds, kept, floor
-- ARGV: epoch, life (ms), projection, whether every live hold is here or brought along ('all' or
--       'besides'), or more calls follow that bring the rest ('more'), how long a hold is kept past its expiry, then of each
--       known hold: ':ID' and the hold
-- Answers 'done' or 'lost'.
local balance, live, holds, kept, floor = KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
if call('GET', KEYS[1]) ~= ARGV[1] then
    return 'lost'
end
local version = tonumber(match(ARGV[3], '^%d+'))
local published = call('GET', floor)
if published and tonumber(published) > version then
    return 'done'
end
local function count_live()
    local members = call('ZRANGE', live, 0, -1, 'WITHSCORES')
    local held = 0
    for index = 1, #members, 2 do
        held = held + tonumber(match(members[index], '^%d+'))
    end
    return held, tonumber(members[2]) or never
end

local here = call('HMGET', balance, 'projection', 'state')
settle(balance, live, holds)
if ARGV[4] == 'besides' and read_state(here[2]) ~= count_live() then
    -- Live holds were lost here (evicted, say): the next miss says that all of them have to come along.
    call('DEL', balance)
    return 'done'
end

for base = 6, #ARGV, 2 do
    local id, text = ARGV[base], ARGV[base + 1]
    local credits, counts_until, state, expires_at = match(text, '^(%d+) (%d+) (%S+) %d+ (%d+)')
    local known = call('HGET', holds, id)
    -- One that has ended here since it was read there is not brought back, and one that was renewed
    -- here is the longer one.
    local live_until = tonumber(match(known or '', '^%d+ %d+ live %d+ (%d+)'))
    if not known or (live_until and (state ~= 'live' or live_until <= tonumber(expires_at))) then
        call('HSET', holds, id, text)
        if known then
            call('ZREM', live, match(known, '^%d+') .. '|' .. id)
        end
        if state == 'live' then
            call('ZREM', kept, id)
            call('ZADD', live, counts_until, credits .. '|' .. id)
        else
            keep(kept, id, tonumber(expires_at), ARGV[5])
        end
    end
end

for _, key in ipairs({live, holds, kept}) do
    call('PEXPIRE', key, ARGV[2])
end
if ARGV[4] == 'more' then
    return 'done'
end
local held, next_end = count_live()
call('HSET', balance, 'state', written_state(held, next_end, 0))
local here_version = tonumber(match(here[1] or '', '^%d+'))
if not here_version or here_version <= version then
    call('HSET', balance, 'projection', ARGV[3])
end
call('PEXPIRE', balance, ARGV[2])
return 'done'
