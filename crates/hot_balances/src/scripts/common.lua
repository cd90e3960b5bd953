-- What the scripts have in common; goes before each. KEYS names the marker and the balance of each account: its other
-- keys are that name and a word more, and lie in the same slot.
-- Numbers are packed into seven bytes, as all of them are below 2^53, where Lua's doubles are exact: so a value stays
-- within the 64 bytes up to which Redis packs a small hash, and nothing is written or read as text on the way.
-- Instants are microseconds; `never` stands for none.
-- `projection`: revision, available, valid until, cycle ends at, refills at, then what no script reads.
-- `state` of a balance: what the live holds come to; no later than the first instant at which one of them stops
-- counting; how many of them are young; and 1 where there may be any others. A young hold is a field ':ID' of the balance.
-- Any other is such a field of `holds`, and lies in `live` while it counts and in `kept` once it does not any more.
-- `loading`: the ticket of the loads under way; `floor`: the latest revision that was published since they began.
-- A hold: Credits, counts until, granted at, expires at, a letter for its state, and its fingerprint.

local call, KEYS, ARGV = redis.call, KEYS, ARGV
local packed, unpacked, sub, format = struct.pack, struct.unpack, string.sub, string.format
local never = 2 ^ 53

-- Of an account that is not loaded the first is nil.
local function read_state(state)
    if state and #state == 17 then
        return unpacked('<i7i7i2i1', state)
    end
end

local function write_state(balance, held, next_end, young, others, ...)
    call('HSET', balance, 'state', packed('<i7i7i2i1', held, next_end, young, others), ...)
end

-- Of one that was dropped, or that nobody of ours has written, nil.
local function read_projection(projection)
    if projection and #projection > 42 then
        return unpacked('<i7i7i7i7', projection)
    end
end

local function read_revision(projection)
    return (read_projection(projection))
end

-- The state's letter: 'l' of a live one.
local function is_live(hold)
    return sub(hold, 29, 29) == 'l'
end

-- A hold in `live`.
local function member(credits, id)
    return format('%d|%s', credits, id)
end

-- Puts the young holds to the others; the state has to say so.
local function settle(balance)
    local fields = call('HGETALL', balance)
    local names, texts, ends = {}, {}, {}
    for index = 1, #fields, 2 do
        local id, hold = fields[index], fields[index + 1]
        if sub(id, 1, 1) == ':' then
            local credits, counts_until = unpacked('<i7i7', hold)
            names[#names + 1] = id
            texts[#texts + 1], texts[#texts + 2] = id, hold
            ends[#ends + 1], ends[#ends + 2] = format('%d', counts_until), member(credits, id)
        end
    end
    if #names > 0 then
        call('HSET', balance .. ':holds', unpack(texts))
        call('ZADD', balance .. ':live', unpack(ends))
        call('HDEL', balance, unpack(names))
    end
end

-- Remembers a hold that does not count any more for a while past its expiry: its id is not free again before.
local function keep(balance, id, expires_at, keep_for)
    call('ZADD', balance .. ':kept', format('%d', expires_at + keep_for), id)
end

-- Forgets what was kept long enough: no more than some, so that nobody waits for long.
local function forget(balance, now, most)
    local ids = call('ZRANGEBYSCORE', balance .. ':kept', '-inf', now, 'LIMIT', 0, most)
    if #ids > 0 then
        call('HDEL', balance .. ':holds', unpack(ids))
        call('ZREM', balance .. ':kept', unpack(ids))
    end
end
