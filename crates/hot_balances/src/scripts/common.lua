-- What the scripts have in common; goes before each.
-- `state` of a balance: 'HELD NEXT YOUNG': what the live holds come to; no later than the first instant at which one of
-- them stops counting, '-' where there is none; how many of them are young. A young hold is a field ':ID' of the balance.
-- Any other is such a field of `holds`, and lies in `live` while it counts and in `kept` once it does not any more.
-- A hold: 'CREDITS COUNTS_UNTIL STATE GRANTED_AT EXPIRES_AT FINGERPRINT'.
-- Instants are microseconds; every number stays below 2^53, where Lua's doubles are exact.

local call, KEYS, ARGV = redis.call, KEYS, ARGV
local tonumber, match, format, never = tonumber, string.match, string.format, math.huge

-- Of an account that is not loaded the first is nil.
local function read_state(state)
    local held, next_end, young = match(state or '', '^(%d+) (%S+) (%d+)$')
    return tonumber(held), tonumber(next_end) or never, tonumber(young)
end

local function written_state(held, next_end, young)
    return format('%.0f %s %d', held, next_end < never and format('%.0f', next_end) or '-', young)
end

-- Puts the young holds to the others.
local function settle(balance, live, holds)
    local fields = call('HGETALL', balance)
    local names, texts, ends = {}, {}, {}
    for index = 1, #fields, 2 do
        local id, text = fields[index], fields[index + 1]
        if match(id, '^:') then
            local credits, counts_until = match(text, '^(%d+) (%d+)')
            names[#names + 1] = id
            texts[#texts + 1], texts[#texts + 2] = id, text
            ends[#ends + 1], ends[#ends + 2] = counts_until, credits .. '|' .. id
        end
    end
    if #names > 0 then
        call('HSET', holds, unpack(texts))
        call('ZADD', live, unpack(ends))
        call('HDEL', balance, unpack(names))
    end
end

-- Remembers a hold that does not count any more for a while past its expiry: its id is not free again before.
local function keep(kept, id, expires_at, keep_for)
    call('ZADD', kept, format('%.0f', expires_at + keep_for), id)
end

-- Forgets what was kept long enough: no more than some, so that nobody waits for long.
local function forget(holds, kept, now, most)
    local ids = call('ZRANGEBYSCORE', kept, '-inf', now, 'LIMIT', 0, most)
    if #ids > 0 then
        call('HDEL', holds, unpack(ids))
        call('ZREM', kept, unpack(ids))
    end
end
