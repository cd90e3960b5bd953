-- Lets a live hold run until later; never until earlier. Moves no balance.
-- KEYS: marker, balance
-- ARGV: epoch, now, ':ID', expires at, how long one is kept past its expiry
-- Answers the projection, or ''; 'renewed', 'ended', 'unknown', 'out' (loaded, and run out), 'miss' or 'lost'; and the
-- hold of the first two.
local balance = KEYS[2]
local live, holds = balance .. ':live', balance .. ':holds'
if call('GET', KEYS[1]) ~= ARGV[1] then
    return {'', 'lost', ''}
end
local id = ARGV[3]
local here = call('HMGET', balance, 'projection', id)
local projection, young = here[1], here[2]
if not projection then
    return {'', 'miss', ''}
end
local known = young or call('HGET', holds, id)
if not known then
    return {projection, 'unknown', ''}
end
local now, renewed_until = tonumber(ARGV[2]), tonumber(ARGV[4])
local credits, counts_until, granted_at, expires_at = unpacked('<i7i7i7i7', known)
if not is_live(known) or expires_at <= now then
    return {projection, 'ended', known}
end
local revision, _, valid_until, cycle_ends_at = read_projection(projection)
if not revision or now >= valid_until then
    return {projection, 'out', ''}
end

if renewed_until <= expires_at then
    return {projection, 'renewed', known}
end
-- One of an ended cycle goes on without counting; one that counts does so until its cycle ends (R-19a).
local counts = counts_until > now
if counts then
    local counted = renewed_until
    if now < cycle_ends_at then
        counted = math.min(counted, cycle_ends_at)
    end
    counts_until = math.max(counts_until, counted)
end
local renewed = packed('<i7i7i7i7', credits, counts_until, granted_at, renewed_until) .. sub(known, 29)
if young then
    call('HSET', balance, id, renewed)
    return {projection, 'renewed', renewed}
end
if counts then
    if not call('ZSCORE', live, member(credits, id)) then
        -- It has run out for somebody whose clock is a little ahead.
        return {projection, 'ended', known}
    end
    call('ZADD', live, format('%d', counts_until), member(credits, id))
elseif call('ZSCORE', balance .. ':kept', id) then
    keep(balance, id, renewed_until, ARGV[5])
end
call('HSET', holds, id, renewed)
return {projection, 'renewed', renewed}
