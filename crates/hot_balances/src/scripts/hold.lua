-- Holds Credits for requests of one account or several, once per hold id (R-28).
-- KEYS: marker, then of each account: balance, live, holds, kept
-- ARGV: life of the holds (ms), how long one is kept past its expiry, then of each account: epoch, number of requests,
--       and of each: now, ':ID', full estimate, prompt's cost, expires at, and what a hold says after its state
-- Answers, of each account: its projection, or '', and of each request: 'held CREDITS',
-- 'known HOLD', 'short UNHELD', 'out' (loaded, and run out), 'miss' or 'lost'.

-- Past so many, young holds are put to the others: what has to be looked through stays short.
local young_max = 64

local marker = call('GET', KEYS[1])
local reply, replies, arg = {}, 0, 3
for key = 2, #KEYS, 4 do
    local balance, live, holds, kept = KEYS[key], KEYS[key + 1], KEYS[key + 2], KEYS[key + 3]
    local is_ours, count = marker == ARGV[arg], tonumber(ARGV[arg + 1])
    arg = arg + 2
    local here, projection, held, next_end, young, available, valid_until, cycle_ends_at = {}
    if is_ours then
        local ids = {}
        for index = 1, count do
            ids[index] = ARGV[arg + index * 6 - 5]
        end
        here = call('HMGET', balance, 'projection', 'state', unpack(ids))
        held, next_end, young = read_state(here[2])
        projection = held and here[1]
    end
    if projection then
        available, valid_until, cycle_ends_at = match(projection, '^%d+ (%d+) (%S+) %S+ (%S+)')
        available, valid_until, cycle_ends_at =
            tonumber(available), tonumber(valid_until) or never, tonumber(cycle_ends_at) or 0
    end
    replies = replies + 1
    reply[replies] = projection or ''

    -- `granted`: ids and texts to be written.
    local granted, is_changed = {}, false
    for index = 1, count do
        local now, id, answer = ARGV[arg], ARGV[arg + 1], nil
        local instant = tonumber(now)
        if not is_ours then
            answer = 'lost'
        elseif not projection then
            answer = 'miss'
        elseif not available or instant >= valid_until then
            answer = 'out'
        else
            if instant >= next_end then
                if #granted > 0 then
                    call('HSET', balance, unpack(granted))
                    granted = {}
                end
                settle(balance, live, holds)
                for _, member in ipairs(call('ZRANGEBYSCORE', live, '-inf', now)) do
                    local credits, ended = match(member, '^(%d+)|(.*)')
                    held = held - tonumber(credits)
                    local expires_at = match(call('HGET', holds, ended) or '', '^%d+ %d+ %S+ %d+ (%d+)')
                    keep(kept, ended, tonumber(expires_at) or instant, ARGV[2])
                end
                call('ZREMRANGEBYSCORE', live, '-inf', now)
                call('PEXPIRE', live, ARGV[1])
                call('PEXPIRE', holds, ARGV[1])
                call('PEXPIRE', kept, ARGV[1])
                forget(holds, kept, now, 256)
                next_end = tonumber(call('ZRANGE', live, 0, 0, 'WITHSCORES')[2]) or never
                young, is_changed = 0, true
            end
            local known = here[index + 2] or call('HGET', holds, id)
            local credits, expires_at = ARGV[arg + 2], ARGV[arg + 4]
            local amount, unheld = tonumber(credits), math.max(0, available - held)
            if amount > unheld then
                amount = unheld > 0 and tonumber(ARGV[arg + 3]) <= unheld and unheld
                credits = amount and format('%.0f', amount)
            end
            if known then
                answer = 'known ' .. known
            elseif credits then
                -- A hold of an ended cycle no longer reduces what is available (R-19a).
                local counts_until, counted = expires_at, tonumber(expires_at)
                if instant < cycle_ends_at and cycle_ends_at < counted then
                    counts_until, counted = format('%.0f', cycle_ends_at), cycle_ends_at
                end
                local text = credits .. ' ' .. counts_until .. ' live ' .. ARGV[arg + 5]
                answer = 'held ' .. credits
                held, next_end, young = held + amount, math.min(next_end, counted), young + 1
                granted[#granted + 1], granted[#granted + 2] = id, text
                is_changed = true
                -- The same id once more in this call.
                for later = index + 1, count do
                    if ARGV[arg + (later - index) * 6 + 1] == id then
                        here[later + 2] = text
                    end
                end
            else
                answer = 'short ' .. format('%.0f', unheld)
            end
        end
        replies = replies + 1
        reply[replies] = answer
        arg = arg + 6
    end

    if is_changed and young > young_max then
        call('HSET', balance, unpack(granted))
        granted, young = {}, 0
        settle(balance, live, holds)
        call('PEXPIRE', live, ARGV[1])
        call('PEXPIRE', holds, ARGV[1])
    end
    if is_changed then
        call('HSET', balance, 'state', written_state(held, next_end, young), unpack(granted))
    end
end
return reply
