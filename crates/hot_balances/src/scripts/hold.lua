-- Holds Credits for a request, once per hold id (R-28).
-- KEYS: balance hash, live holds, this hold
-- ARGV: now, hold id, full estimate, prompt's cost, expires at, fingerprint, time to keep (ms), epoch
-- Instants are microseconds; every number stays below 2^53, where Lua's doubles are exact.
local balance = redis.call('HMGET', KEYS[1], 'version', 'available', 'valid_until', 'refills_at', 'mac', 'held', 'epoch',
    'cycle_ends_at')
local now = tonumber(ARGV[1])
if not balance[1] or balance[7] ~= ARGV[8] or (balance[3] ~= '' and now >= tonumber(balance[3])) then
    return {'miss'}
end

-- A live hold that should count and is not in the live set was left by a call of an earlier epoch that
-- ran late: it was never granted.
local known = redis.call('GET', KEYS[3])
if known and string.match(known, ' live$') then
    local credits, counts_until = string.match(known, '^(%d+) %d+ %d+ (%d+)')
    if tonumber(counts_until) > now and not redis.call('ZSCORE', KEYS[2], credits .. '|' .. ARGV[2]) then
        known = false
    end
end
if known then
    return {'known', balance[1], balance[2], balance[3], balance[4], balance[8], balance[5], known}
end

local held = tonumber(balance[6])
local expired = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1])
if #expired > 0 then
    for _, member in ipairs(expired) do
        held = held - tonumber(string.match(member, '^%d+'))
    end
    redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[1])
    redis.call('HSET', KEYS[1], 'held', string.format('%.0f', held))
end

local unheld = math.max(0, tonumber(balance[2]) - held)
local credits = ARGV[3]
if tonumber(ARGV[3]) > unheld then
    credits = string.format('%.0f', unheld)
    if tonumber(ARGV[4]) > unheld or unheld == 0 then
        return {'short', balance[1], balance[2], balance[3], balance[4], balance[8], balance[5], credits}
    end
end

-- A hold of an ended cycle no longer reduces what is available (R-19a).
local counts_until = ARGV[5]
if balance[8] ~= '' and now < tonumber(balance[8]) and tonumber(balance[8]) < tonumber(ARGV[5]) then
    counts_until = balance[8]
end
redis.call('HINCRBY', KEYS[1], 'held', credits)
redis.call('ZADD', KEYS[2], counts_until, credits .. '|' .. ARGV[2])
redis.call('SET', KEYS[3], table.concat({credits, ARGV[1], ARGV[5], counts_until, ARGV[6], 'live'}, ' '),
    'PX', ARGV[7])
return {'held', balance[1], balance[2], balance[3], balance[4], balance[8], balance[5], credits}
