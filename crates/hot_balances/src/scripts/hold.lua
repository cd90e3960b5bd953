-- Holds Credits for requests of one account or several, once per hold id (R-28).
-- KEYS: marker, then of each account: balance, live holds, and its requests' own holds
-- ARGV: life of the live holds (ms), then of each account: epoch, number of requests, and of each:
--       now, hold id, full estimate, prompt's cost, expires at, fingerprint, time to keep (ms)
-- Answers, of each account: its projection, or '', and of each request: 'held CREDITS',
-- 'known HOLD', 'short UNHELD', 'out' (loaded, and run out), 'miss' or 'lost'.
-- Instants are microseconds; every number stays below 2^53, where Lua's doubles are exact.
-- `next` is no later than the first instant at which a live hold stops counting; '' if there is none.

local marker = redis.call('GET', KEYS[1])
local reply, replies, key, arg = {}, 0, 2, 2
while KEYS[key] do
    local balance, live = KEYS[key], KEYS[key + 1]
    local is_ours, count = marker == ARGV[arg], tonumber(ARGV[arg + 1])
    local projection, held, next_end
    if is_ours then
        local here = redis.call('HMGET', balance, 'projection', 'held', 'next')
        held, next_end = tonumber(here[2]), tonumber(here[3]) or math.huge
        projection = held and here[1]
    end
    local available, valid_until, cycle_ends_at =
        string.match(projection or '', '^%d+ (%d+) (%S+) %S+ (%S+)')
    available, valid_until, cycle_ends_at =
        tonumber(available), tonumber(valid_until) or math.huge, tonumber(cycle_ends_at) or 0
    replies = replies + 1
    reply[replies] = projection or ''

    local added, is_first, is_changed = {}, false, false
    local function add()
        if #added > 0 then
            redis.call('ZADD', live, unpack(added))
            added = {}
        end
        if is_first then
            redis.call('PEXPIRE', live, ARGV[1])
            is_first = false
        end
    end

    for index = 1, count do
        local now, id, full, prompt, expires_at, fingerprint, keep =
            unpack(ARGV, arg + index * 7 - 5, arg + index * 7 + 1)
        local own, instant, answer = KEYS[key + 1 + index], tonumber(now), nil
        if not is_ours then
            answer = 'lost'
        elseif not projection then
            answer = 'miss'
        elseif not available or instant >= valid_until then
            answer = 'out'
        else
            if instant >= next_end then
                add()
                for _, member in ipairs(redis.call('ZRANGEBYSCORE', live, '-inf', now)) do
                    held = held - tonumber(string.match(member, '^%d+'))
                end
                redis.call('ZREMRANGEBYSCORE', live, '-inf', now)
                next_end = tonumber(redis.call('ZRANGE', live, 0, 0, 'WITHSCORES')[2]) or math.huge
                is_changed = true
            end
            local unheld = math.max(0, available - held)
            local credits = full
            if tonumber(full) > unheld then
                credits = unheld > 0 and tonumber(prompt) <= unheld and string.format('%.0f', unheld)
            end
            if credits then
                -- A hold of an ended cycle no longer reduces what is available (R-19a).
                local counts_until = expires_at
                if instant < cycle_ends_at and cycle_ends_at < tonumber(expires_at) then
                    counts_until = string.format('%.0f', cycle_ends_at)
                end
                local text = table.concat({credits, now, expires_at, counts_until, fingerprint, 'live'}, ' ')
                local known = redis.call('SET', own, text, 'PX', keep, 'NX', 'GET')
                if known then
                    answer = 'known ' .. known
                else
                    answer = 'held ' .. credits
                    held = held + tonumber(credits)
                    is_first = is_first or next_end == math.huge
                    next_end = math.min(next_end, tonumber(counts_until))
                    added[#added + 1], added[#added + 2] = counts_until, credits .. '|' .. id
                    is_changed = true
                end
            else
                local known = redis.call('GET', own)
                answer = known and 'known ' .. known or 'short ' .. string.format('%.0f', unheld)
            end
        end
        replies = replies + 1
        reply[replies] = answer
    end

    add()
    if is_changed then
        redis.call('HSET', balance, 'held', string.format('%.0f', held),
            'next', next_end < math.huge and string.format('%.0f', next_end) or '')
    end
    key, arg = key + 2 + count, arg + 2 + count * 7
end
return reply
