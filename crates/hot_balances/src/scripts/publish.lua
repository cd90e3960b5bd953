-- Takes over a balance that is not older, and ends the holds that the same change captured (R-35).
-- An account that is not projected in this epoch stays so: the next miss loads it with its holds. What
-- was read before this change must not come after it: the floor says so to a fill under way.
-- KEYS: balance hash, live holds, floor, ended holds...
-- ARGV: epoch, version, available, valid until, refills at, cycle ends at, mac, floor's life (ms), then
--       of each ended hold: id
for index = 4, #KEYS do
    local known = redis.call('GET', KEYS[index])
    local credits, rest = string.match(known or '', '^(%d+) (.*) live$')
    if credits then
        -- Redis takes no -0, which a hold of nothing would come to.
        if redis.call('ZREM', KEYS[2], credits .. '|' .. ARGV[index + 5]) == 1 and credits ~= '0' then
            redis.call('HINCRBY', KEYS[1], 'held', '-' .. credits)
        end
        redis.call('SET', KEYS[index], credits .. ' ' .. rest .. ' captured', 'KEEPTTL')
    elseif not known then
        redis.call('SET', KEYS[index], '0 0 0 0 - captured', 'PX', ARGV[8])
    end
end

local floor = redis.call('GET', KEYS[3])
if not floor or tonumber(floor) < tonumber(ARGV[2]) then
    redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[8])
end

local here = redis.call('HMGET', KEYS[1], 'epoch', 'version')
if here[1] ~= ARGV[1] or tonumber(here[2]) > tonumber(ARGV[2]) then
    return 0
end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'available', ARGV[3], 'valid_until', ARGV[4],
    'refills_at', ARGV[5], 'cycle_ends_at', ARGV[6], 'mac', ARGV[7])
return 1
