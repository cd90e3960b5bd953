-- Lets a live hold run until later; never until earlier. Moves no balance.
-- KEYS: marker, balance, live, holds, kept
-- ARGV: epoch, now, ':ID', expires at, how long one is kept past its expiry
-- Answers the projection, or '', and 'renewed HOLD', 'ended HOLD', 'unknown', 'out' (loaded, and run
-- out), 'miss' or 'lost'.
local balance, live, holds, kept = KEYS[2], KEYS[3], KEYS[4], KEYS[5]
if call('GET', KEYS[1]) ~= ARGV[1] then
    return {'', 'lost'}
end
local id = ARGV[3]
local here = call('HMGET', balance, 'projection', id)
local projection, young = here[1], here[2]
if not projection then
    return {'', 'miss'}
end
local known = young or call('HGET', holds, id)
if not known then
    return {projection, 'unknown'}
end
local now = tonumber(ARGV[2])
local credits, counts_until, state, granted_at, expires_at, fingerprint =
    match(known, '^(%d+) (%d+) (%S+) (%d+) (%d+) (%S+)$')
if state ~= 'live' or tonumber(expires_at) <= now then
    return {projection, 'ended ' .. known}
end
local valid_until, cycle_ends_at = match(projection, '^%d+ %d+ (%S+) %S+ (%S+)')
if not valid_until or now >= (tonumber(valid_until) or never) then
    return {projection, 'out'}
end

if tonumber(ARGV[4]) <= tonumber(expires_at) then
    return {projection, 'renewed ' .. known}
end
expires_at = ARGV[4]
-- One of an ended cycle goes on without counting; one that counts does so until its cycle ends (R-19a).
local counts = tonumber(counts_until) > now
if counts then
    local counted = tonumber(expires_at)
    cycle_ends_at = tonumber(cycle_ends_at)
    if cycle_ends_at and now < cycle_ends_at then
        counted = math.min(counted, cycle_ends_at)
    end
    counts_until = format('%.0f', math.max(tonumber(counts_until), counted))
end
local renewed = table.concat({credits, counts_until, state, granted_at, expires_at, fingerprint}, ' ')
if young then
    call('HSET', balance, id, renewed)
    return {projection, 'renewed ' .. renewed}
end
if counts then
    local member = credits .. '|' .. id
    if not call('ZSCORE', live, member) then
        -- It has run out for somebody whose clock is a little ahead.
        return {projection, 'ended ' .. known}
    end
    call('ZADD', live, counts_until, member)
elseif call('ZSCORE', kept, id) then
    keep(kept, id, tonumber(expires_at), ARGV[5])
end
call('HSET', holds, id, renewed)
return {projection, 'renewed ' .. renewed}
