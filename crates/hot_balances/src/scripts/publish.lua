-- Takes over balances that are not older, and ends the holds that the same changes ended (R-35).
-- An account that is not loaded, or was dropped, stays so: the next miss loads it. What was read before
-- this change must not come after it: the floor says so to a load under way.
-- KEYS: marker, then the balance of each account
-- ARGV: epoch, life (ms), how long one is kept past its expiry, now, then of each account: projection, how many
--       holds ended, and of each: ':ID', the letter of how it ended
-- Answers 'done' or 'lost'.
if call('GET', KEYS[1]) ~= ARGV[1] then
    return 'lost'
end
local life, keep_for, now, arg = ARGV[2], ARGV[3], ARGV[4], 5
for key = 2, #KEYS do
    local balance = KEYS[key]
    local projection, ended = ARGV[arg], tonumber(ARGV[arg + 1])
    arg = arg + 2

    local here = call('HMGET', balance, 'projection', 'state', 'loading', 'floor')
    local held, next_end, young = read_state(here[2])
    local freed = 0
    -- Names that are needed only where holds have ended.
    local live = ended > 0 and balance .. ':live'
    local holds = ended > 0 and balance .. ':holds'
    for _ = 1, ended do
        local id, how = ARGV[arg], ARGV[arg + 1]
        arg = arg + 2
        local is_young = call('HGET', balance, id)
        local known = is_young or call('HGET', holds, id)
        if not known then
            -- Marked, so that a fill under way does not bring it back, and for as long as any ended hold: no fill writes
            -- over it, and its id is not free again before.
            call('HSET', holds, id, packed('<i7i7i7i7', 0, 0, 0, 0) .. how .. string.rep('\0', 16))
            keep(balance, id, tonumber(now), keep_for)
        elseif is_live(known) then
            local credits, _, _, expires_at = unpacked('<i7i7i7i7', known)
            if is_young then
                call('HDEL', balance, id)
                young = young and young - 1
            end
            if is_young or call('ZREM', live, member(credits, id)) == 1 then
                freed = freed + credits
            end
            call('HSET', holds, id, sub(known, 1, 28) .. how .. sub(known, 30))
            keep(balance, id, expires_at, keep_for)
        end
    end
    if ended > 0 then
        forget(balance, now, 4 * ended)
        call('PEXPIRE', holds, life)
        call('PEXPIRE', balance .. ':kept', life)
    end

    local revision = read_revision(projection)
    local is_loading, floor = here[3], tonumber(here[4] or -1)
    if is_loading and floor < revision then
        call('HSET', balance, 'floor', format('%d', revision))
    end

    if held then
        -- An account in use is told anew before it runs out, and is not filled for days.
        call('PEXPIRE', balance, life)
    end
    if held and ended > 0 then
        if young == 0 and call('EXISTS', live) == 0 then
            next_end = never
        end
        write_state(balance, held - freed, next_end, young, 1)
    end
    local here_revision = read_revision(here[1])
    if here_revision and here_revision <= revision then
        call('HSET', balance, 'projection', projection)
    end
end
return 'done'
