-- Takes over a balance that is not older, and ends the holds that the same change captured (R-35).
-- An account that is not projected stays so: the next miss loads it with its holds.
-- KEYS: balance hash, live holds, ended holds...
-- ARGV: version, available, valid until, refills at, mac, then each ended hold's id
for index = 3, #KEYS do
    local known = redis.call('GET', KEYS[index])
    local credits, rest = string.match(known or '', '^(%d+) (.*) live$')
    if credits then
        if redis.call('ZREM', KEYS[2], credits .. '|' .. ARGV[index + 3]) == 1 then
            redis.call('HINCRBY', KEYS[1], 'held', '-' .. credits)
        end
        redis.call('SET', KEYS[index], credits .. ' ' .. rest .. ' captured', 'KEEPTTL')
    end
end

local version = redis.call('HGET', KEYS[1], 'version')
if not version or tonumber(version) > tonumber(ARGV[1]) then
    return 0
end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'available', ARGV[2], 'valid_until', ARGV[3],
    'refills_at', ARGV[4], 'mac', ARGV[5])
return 1
