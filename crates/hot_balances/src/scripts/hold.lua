-- Holds Credits for requests of one account or several, once per hold id (R-28).
-- KEYS: marker, then of each account: balance, live holds, and its requests' own holds
-- ARGV: life of the live holds (ms), then of each account: epoch, number of requests, and of each:
--       now, hold id, full estimate, prompt's cost, expires at, fingerprint, time to keep (ms)
-- Answers, of each account: its projection, or '', and of each request: 'held CREDITS',
-- 'known HOLD', 'short UNHELD', 'out' (loaded, and run out), 'miss' or 'lost'.
-- Instants are microseconds; every number stays below 2^53, where Lua's doubles are exact.
-- `next` is no later than the first instant at which a live hold stops counting; '' if there is none.

local call, KEYS, ARGV = redis.call, KEYS, ARGV
local tonumber, match, format = tonumber, string.match, string.format

-- Puts holds among the live ones of an account; the first of them begins the set's life.
local function add(live, added, is_first)
    if #added > 0 then
        call('ZADD', live, unpack(added))
    end
    if is_first then
        call('PEXPIRE', live, ARGV[1])
    end
end

local marker = call('GET', KEYS[1])
local reply, replies, key, arg = {}, 0, 2, 2
while KEYS[key] do
    local balance, live = KEYS[key], KEYS[key + 1]
    local is_ours, count = marker == ARGV[arg], tonumber(ARGV[arg + 1])
    local projection, held, next_end, next_here, available, valid_until, cycle_ends_at
    if is_ours then
        local here = call('HMGET', balance, 'projection', 'held', 'next')
        held, next_end = tonumber(here[2]), tonumber(here[3]) or math.huge
        projection, next_here = held and here[1], next_end
    end
    if projection then
        available, valid_until, cycle_ends_at = match(projection, '^%d+ (%d+) (%S+) %S+ (%S+)')
        available, valid_until, cycle_ends_at =
            tonumber(available), tonumber(valid_until) or math.huge, tonumber(cycle_ends_at) or 0
    end
    replies = replies + 1
    reply[replies] = projection or ''

    local added, is_first, is_changed = {}, false, false
    for index = 1, count do
        local now, own, answer = ARGV[arg + 2], KEYS[key + 1 + index], nil
        local instant = tonumber(now)
        if not is_ours then
            answer = 'lost'
        elseif not projection then
            answer = 'miss'
        elseif not available or instant >= valid_until then
            answer = 'out'
        else
            if instant >= next_end then
                add(live, added, is_first)
                added, is_first = {}, false
                for _, member in ipairs(call('ZRANGEBYSCORE', live, '-inf', now)) do
                    held = held - tonumber(match(member, '^%d+'))
                end
                call('ZREMRANGEBYSCORE', live, '-inf', now)
                next_end = tonumber(call('ZRANGE', live, 0, 0, 'WITHSCORES')[2]) or math.huge
                is_changed = true
            end
            local credits, expires_at = ARGV[arg + 4], ARGV[arg + 6]
            local amount, unheld = tonumber(credits), math.max(0, available - held)
            if amount > unheld then
                amount = unheld > 0 and tonumber(ARGV[arg + 5]) <= unheld and unheld
                credits = amount and format('%.0f', amount)
            end
            if credits then
                -- A hold of an ended cycle no longer reduces what is available (R-19a).
                local counts_until, counted = expires_at, tonumber(expires_at)
                if instant < cycle_ends_at and cycle_ends_at < counted then
                    counts_until, counted = format('%.0f', cycle_ends_at), cycle_ends_at
                end
                local text = credits .. ' ' .. now .. ' ' .. expires_at .. ' ' .. counts_until .. ' '
                    .. ARGV[arg + 7] .. ' live'
                local known = call('SET', own, text, 'PX', ARGV[arg + 8], 'NX', 'GET')
                if known then
                    answer = 'known ' .. known
                else
                    answer = 'held ' .. credits
                    held = held + amount
                    is_first = is_first or next_end == math.huge
                    next_end = math.min(next_end, counted)
                    added[#added + 1], added[#added + 2] = counts_until, credits .. '|' .. ARGV[arg + 3]
                    is_changed = true
                end
            else
                local known = call('GET', own)
                answer = known and 'known ' .. known or 'short ' .. format('%.0f', unheld)
            end
        end
        replies = replies + 1
        reply[replies] = answer
        arg = arg + 7
    end

    add(live, added, is_first)
    if next_end ~= next_here then
        call('HSET', balance, 'held', held, 'next', next_end < math.huge and next_end or '')
    elseif is_changed then
        call('HSET', balance, 'held', held)
    end
    key, arg = key + 2 + count, arg + 2
end
return reply
