-- Lets a live hold run until later; never until earlier. Moves no balance.
-- KEYS: marker, balance, live holds, this hold
-- ARGV: epoch, now, hold id, expires at, time to keep (ms)
-- Answers the projection, or '', and 'renewed HOLD', 'ended HOLD', 'unknown', 'out' (loaded, and run
-- out), 'miss' or 'lost'.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return {'', 'lost'}
end
local projection = redis.call('HGET', KEYS[2], 'projection')
if not projection then
    return {'', 'miss'}
end
local known = redis.call('GET', KEYS[4])
if not known then
    return {projection, 'unknown'}
end
local now = tonumber(ARGV[2])
local credits, granted_at, expires_at, counts_until, fingerprint, state =
    string.match(known, '^(%d+) (%d+) (%d+) (%d+) (%S+) (%S+)$')
if state ~= 'live' or tonumber(expires_at) <= now then
    return {projection, 'ended ' .. known}
end
local valid_until, cycle_ends_at = string.match(projection, '^%d+ %d+ (%S+) %S+ (%S+)')
if not valid_until or now >= (tonumber(valid_until) or math.huge) then
    return {projection, 'out'}
end

if tonumber(ARGV[4]) <= tonumber(expires_at) then
    return {projection, 'renewed ' .. known}
end
expires_at = ARGV[4]
-- One of an ended cycle goes on without counting; one that counts does so until its cycle ends (R-19a).
if tonumber(counts_until) > now then
    local member = credits .. '|' .. ARGV[3]
    if not redis.call('ZSCORE', KEYS[3], member) then
        -- It has run out for somebody whose clock is a little ahead.
        return {projection, 'ended ' .. known}
    end
    local counted = tonumber(expires_at)
    cycle_ends_at = tonumber(cycle_ends_at)
    if cycle_ends_at and now < cycle_ends_at then
        counted = math.min(counted, cycle_ends_at)
    end
    counts_until = string.format('%.0f', math.max(tonumber(counts_until), counted))
    redis.call('ZADD', KEYS[3], counts_until, member)
end
local renewed = table.concat({credits, granted_at, expires_at, counts_until, fingerprint, state}, ' ')
redis.call('SET', KEYS[4], renewed, 'PX', ARGV[5])
return {projection, 'renewed ' .. renewed}
