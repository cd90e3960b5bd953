-- Takes over balances that are not older, and ends the holds that the same changes ended (R-35).
-- An account that is not loaded, or was dropped, stays so: the next miss loads it. What was read before
-- this change must not come after it: the floor says so to a fill under way.
-- KEYS: marker, then of each account: balance, live, holds, kept, floor
-- ARGV: epoch, floor's life (ms), life of the holds (ms), how long one is kept past its expiry, now, then of each account:
--       projection, how many holds ended, and of each: ':ID', how it ended
-- Answers 'done' or 'lost'.
if call('GET', KEYS[1]) ~= ARGV[1] then
    return 'lost'
end
local floor_life, life, keep_for, now, arg = ARGV[2], ARGV[3], ARGV[4], ARGV[5], 6
for key = 2, #KEYS, 5 do
    local balance, live, holds, kept, floor = KEYS[key], KEYS[key + 1], KEYS[key + 2], KEYS[key + 3], KEYS[key + 4]
    local projection, ended = ARGV[arg], tonumber(ARGV[arg + 1])
    arg = arg + 2

    local here = call('HMGET', balance, 'projection', 'state')
    local held, next_end, young = read_state(here[2])
    local freed, has_freed = 0, false
    for _ = 1, ended do
        local id, how = ARGV[arg], ARGV[arg + 1]
        arg = arg + 2
        local is_young = call('HGET', balance, id)
        local known = is_young or call('HGET', holds, id)
        local start, credits, rest, expires_at = match(known or '', '^((%d+) %d+ )live( %d+ (%d+) .*)$')
        if start then
            if is_young then
                call('HDEL', balance, id)
                young = young and young - 1
            end
            if is_young or call('ZREM', live, credits .. '|' .. id) == 1 then
                freed, has_freed = freed + tonumber(credits), true
            end
            call('HSET', holds, id, start .. how .. rest)
            keep(kept, id, tonumber(expires_at), keep_for)
        elseif not known then
            -- Marked, so that a fill under way does not bring it back, and for as long as any ended hold: no fill writes
            -- over it, and its id is not free again before.
            call('HSET', holds, id, '0 0 ' .. how .. ' 0 0 -')
            keep(kept, id, tonumber(now), keep_for)
        end
    end
    if ended > 0 then
        forget(holds, kept, now, 4 * ended)
        call('PEXPIRE', holds, life, 'NX')
        call('PEXPIRE', kept, life, 'NX')
    end

    local version_text = match(projection, '^%d+')
    local version = tonumber(version_text)
    local published = call('GET', floor)
    if not published or tonumber(published) < version then
        call('SET', floor, version_text, 'PX', floor_life)
    end

    if held and has_freed then
        if young == 0 and call('EXISTS', live) == 0 then
            next_end = never
        end
        call('HSET', balance, 'state', written_state(held - freed, next_end, young))
    end
    local here_version = tonumber(match(here[1] or '', '^%d+'))
    if here_version and here_version <= version then
        call('HSET', balance, 'projection', projection)
    end
end
return 'done'
