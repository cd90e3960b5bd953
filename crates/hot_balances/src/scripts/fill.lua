-- Loads an account after a miss: its balance if that is not older than what is here or was published
-- since the load began, and the holds that PostgreSQL knows. Where there is no balance here, nothing is taken of a load that is
-- over, since it took too long or another one has brought the account: what was published since is not known. A balance that
-- is here is as new as anything that was published.
-- KEYS: marker, balance
-- ARGV: epoch, life (ms), projection, whether every live hold is here or brought along ('all' or
--       'besides'), or more calls follow that bring the rest ('more'), how long a hold is kept past its expiry, the load's ticket,
--       then of each known hold: ':ID' and the hold
-- Answers 'done', 'passed' (over) or 'lost'.
local balance = KEYS[2]
local live, holds, kept = balance .. ':live', balance .. ':holds', balance .. ':kept'
if call('GET', KEYS[1]) ~= ARGV[1] then
    return 'lost'
end
local here = call('HMGET', balance, 'projection', 'state', 'loading', 'floor')
local revision, here_revision, floor = read_revision(ARGV[3]), read_revision(here[1]), tonumber(here[4] or -1)
if not here_revision and (here[3] ~= ARGV[6] or floor > revision) then
    return 'passed'
end
local function count_live()
    local members = call('ZRANGE', live, 0, -1, 'WITHSCORES')
    local held = 0
    for index = 1, #members, 2 do
        held = held + tonumber(string.match(members[index], '^%d+'))
    end
    return held, tonumber(members[2]) or never
end

settle(balance)
local held_here, next_end_here, young_here, others = read_state(here[2])
others = others or 0
if held_here and young_here > 0 then
    others = 1
    -- Whatever comes of this call, what was young is found among the others.
    write_state(balance, held_here, next_end_here, 0, others)
end
if ARGV[4] == 'besides' and held_here ~= count_live() then
    -- Live holds were lost here (evicted, say): the next miss says that all of them have to come along.
    call('DEL', balance)
    return 'done'
end

for base = 7, #ARGV, 2 do
    local id, hold = ARGV[base], ARGV[base + 1]
    local credits, counts_until, _, expires_at = unpacked('<i7i7i7i7', hold)
    local known = call('HGET', holds, id)
    -- One that has ended here since it was read there is not brought back, and one that was renewed
    -- here is the longer one.
    if not known or (is_live(known) and (not is_live(hold) or unpacked('<i7', known, 22) <= expires_at)) then
        call('HSET', holds, id, hold)
        if known then
            call('ZREM', live, member(unpacked('<i7', known), id))
        end
        if is_live(hold) then
            call('ZREM', kept, id)
            call('ZADD', live, format('%d', counts_until), member(credits, id))
        else
            keep(balance, id, expires_at, ARGV[5])
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
if not here_revision or here_revision <= revision then
    -- Before the state, so that it is found first.
    call('HSET', balance, 'projection', ARGV[3])
end
write_state(balance, held, next_end, 0, math.max(others, call('EXISTS', holds)))
call('HDEL', balance, 'loading', 'floor')
call('PEXPIRE', balance, ARGV[2])
return 'done'
