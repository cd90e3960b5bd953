-- Takes over a balance that is not older, and ends the holds that the same change captured (R-35).
-- An account that is not projected in this epoch stays so: the next miss loads it with its holds.
-- KEYS: balance hash, live holds, ended holds...
-- ARGV: epoch, version, available, valid until, refills at, mac, then each ended hold's id
for index = 3, #KEYS do
    local known = redis.call('GET', KEYS[index])
    local credits, rest = string.match(known or '', '^(%d+) (.*) live$')
    if credits then
        if redis.call('ZREM', KEYS[2], credits .. '|' .. ARGV[index + 4]) == 1 then
            redis.call('HINCRBY', KEYS[1], 'held', '-' .. credits)
        end
        redis.call('SET', KEYS[index], credits .. ' ' .. rest .. ' captured', 'KEEPTTL')
    end
end

local here = redis.call('HMGET', KEYS[1], 'epoch', 'version')
if here[1] ~= ARGV[1] or tonumber(here[2]) > tonumber(ARGV[2]) then
    return 0
end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'available', ARGV[3], 'valid_until', ARGV[4],
    'refills_at', ARGV[5], 'mac', ARGV[6])
return 1
