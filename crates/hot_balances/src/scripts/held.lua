-- What the live holds of an account come to at an instant. Changes nothing.
-- KEYS: marker, balance, live
-- ARGV: epoch, now
-- Answers the Credits held, 'miss' or 'lost'.
if call('GET', KEYS[1]) ~= ARGV[1] then
    return 'lost'
end
local held, next_end, young = read_state(call('HGET', KEYS[2], 'state'))
if not held then
    return 'miss'
end
local now = tonumber(ARGV[2])
if now >= next_end then
    for _, member in ipairs(call('ZRANGEBYSCORE', KEYS[3], '-inf', ARGV[2])) do
        held = held - tonumber(match(member, '^%d+'))
    end
    local fields = young > 0 and call('HGETALL', KEYS[2]) or {}
    for index = 1, #fields, 2 do
        local credits, counts_until = match(fields[index + 1], '^(%d+) (%d+)')
        if match(fields[index], '^:') and tonumber(counts_until) <= now then
            held = held - tonumber(credits)
        end
    end
end
return format('%.0f', held)
