-- What the live holds of an account come to at an instant. Changes nothing.
-- KEYS: marker, balance
-- ARGV: epoch, now
-- Answers the Credits held, 'miss' or 'lost'.
local balance, now = KEYS[2], tonumber(ARGV[2])
if call('GET', KEYS[1]) ~= ARGV[1] then
    return 'lost'
end
local held, next_end, young = read_state(call('HGET', balance, 'state'))
if not held then
    return 'miss'
end
if now >= next_end then
    for _, ended in ipairs(call('ZRANGEBYSCORE', balance .. ':live', '-inf', ARGV[2])) do
        held = held - tonumber(string.match(ended, '^%d+'))
    end
    local fields = young > 0 and call('HGETALL', balance) or {}
    for index = 1, #fields, 2 do
        if sub(fields[index], 1, 1) == ':' then
            local credits, counts_until = unpacked('<i7i7', fields[index + 1])
            if counts_until <= now then
                held = held - credits
            end
        end
    end
end
return held
