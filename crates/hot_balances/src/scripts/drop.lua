-- Makes an account's projection a miss, and takes back holds that were given on it. Its live holds stay.
-- KEYS: marker, balance, live, holds
-- ARGV: epoch, the projection to drop ('' for whatever is here), then of each hold to take back: ':ID'
-- Answers 'done' or 'lost'.
local balance, live, holds = KEYS[2], KEYS[3], KEYS[4]
if call('GET', KEYS[1]) ~= ARGV[1] then
    return 'lost'
end
local here = call('HMGET', balance, 'projection', 'state')
if here[1] and (ARGV[2] == '' or here[1] == ARGV[2]) then
    call('HSET', balance, 'projection', '')
end
local held, next_end, young = read_state(here[2])
if not held then
    return 'done'
end
for index = 3, #ARGV do
    local id = ARGV[index]
    local given = call('HGET', balance, id)
    if given then
        call('HDEL', balance, id)
        held, young = held - tonumber(match(given, '^%d+')), young - 1
    else
        local credits = match(call('HGET', holds, id) or '', '^(%d+) %d+ live ')
        if credits and call('ZREM', live, credits .. '|' .. id) == 1 then
            call('HDEL', holds, id)
            held = held - tonumber(credits)
        end
    end
end
call('HSET', balance, 'state', written_state(held, next_end, young))
return 'done'
