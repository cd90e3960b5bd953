-- Makes an account's projection a miss, and takes back holds that were given on it. Its live holds stay. A load under way is
-- over, with the floor that it had: the next one begins anew.
-- KEYS: marker, balance
-- ARGV: epoch, the projection to drop ('' for whatever is here), then of each hold to take back: ':ID'
-- Answers 'done' or 'lost'.
local balance = KEYS[2]
local holds = balance .. ':holds'
if call('GET', KEYS[1]) ~= ARGV[1] then
    return 'lost'
end
local here = call('HMGET', balance, 'projection', 'state')
if here[1] and (ARGV[2] == '' or here[1] == ARGV[2]) then
    call('HSET', balance, 'projection', '')
    call('HDEL', balance, 'loading', 'floor')
end
local held, next_end, young, others = read_state(here[2])
if not held then
    return 'done'
end
for index = 3, #ARGV do
    local id = ARGV[index]
    local given = call('HGET', balance, id)
    if given then
        call('HDEL', balance, id)
        held, young = held - unpacked('<i7', given), young - 1
    else
        local hold = call('HGET', holds, id)
        if hold and is_live(hold) then
            local credits = unpacked('<i7', hold)
            if call('ZREM', balance .. ':live', member(credits, id)) == 1 then
                call('HDEL', holds, id)
                held = held - credits
            end
        end
    end
end
write_state(balance, held, next_end, young, others)
return 'done'
