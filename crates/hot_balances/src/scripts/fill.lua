-- Loads an account after a miss: its balance if that is not older than what is here or was published
-- meanwhile, and the holds that PostgreSQL knows. What is here of an earlier epoch is dropped first.
-- KEYS: balance hash, live holds, floor, known holds...
-- ARGV: epoch, version, available, valid until, refills at, cycle ends at, mac, then of each known hold:
--       id, credits, granted at, expires at, counts until, fingerprint, state, time to keep (ms)
local floor = redis.call('GET', KEYS[3])
if floor and tonumber(floor) > tonumber(ARGV[2]) then
    return 0
end
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then
    redis.call('DEL', KEYS[1], KEYS[2])
end

for index = 4, #KEYS do
    local base = 8 + (index - 4) * 8
    local id, credits, granted_at, expires_at, counts_until, fingerprint, state, keep =
        unpack(ARGV, base, base + 7)
    local known = redis.call('GET', KEYS[index])
    -- One that has ended here since it was read there is not brought back.
    if not known or string.match(known, ' live$') then
        redis.call('SET', KEYS[index],
            table.concat({credits, granted_at, expires_at, counts_until, fingerprint, state}, ' '), 'PX', keep)
        if known then
            redis.call('ZREM', KEYS[2], string.match(known, '^%d+') .. '|' .. id)
        end
        if state == 'live' then
            redis.call('ZADD', KEYS[2], counts_until, credits .. '|' .. id)
        end
    end
end

local version = redis.call('HGET', KEYS[1], 'version')
if version and tonumber(version) > tonumber(ARGV[2]) then
    return 0
end
local held = 0
for _, member in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
    held = held + tonumber(string.match(member, '^%d+'))
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'version', ARGV[2], 'available', ARGV[3],
    'valid_until', ARGV[4], 'refills_at', ARGV[5], 'cycle_ends_at', ARGV[6], 'mac', ARGV[7],
    'held', string.format('%.0f', held))
return 1
