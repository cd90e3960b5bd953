-- Makes an account's projection a miss, and takes back holds that were given on it. Its live holds stay.
-- KEYS: marker, balance, live holds, holds to take back...
-- ARGV: epoch, the projection to drop ('' for whatever is here), then of each hold to take back: id
-- Answers 'done' or 'lost'.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 'lost'
end
local here = redis.call('HMGET', KEYS[2], 'projection', 'held')
if here[1] and (ARGV[2] == '' or here[1] == ARGV[2]) then
    redis.call('HSET', KEYS[2], 'projection', '')
end
local held = tonumber(here[2])
for index = 4, #KEYS do
    local credits = string.match(redis.call('GET', KEYS[index]) or '', '^(%d+) .* live$')
    if credits then
        redis.call('DEL', KEYS[index])
        if redis.call('ZREM', KEYS[3], credits .. '|' .. ARGV[index - 1]) == 1 and held then
            held = held - tonumber(credits)
        end
    end
end
if held then
    redis.call('HSET', KEYS[2], 'held', string.format('%.0f', held))
end
return 'done'
