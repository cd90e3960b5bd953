-- Holds Credits for requests of one account or several, once per hold id (R-28).
-- KEYS: marker, then the balance of each account
-- ARGV: epoch, life of the holds (ms), how long one is kept past its expiry, then of each request, those of one account
--       together: now, full estimate, prompt's cost, expires at and how many of its account there are from here on; ':ID';
--       and the hold as it is if all of it is granted
-- Answers, of each account: its projection, or '', and of each request: the Credits held, or 'known' and the hold,
-- 'short' and what is unheld, 'out' (loaded, and run out) or 'miss'. Nothing at all where the epoch is another one.

-- Past so many, young holds are put to the others: what has to be looked through stays short.
local young_max = 250

if call('GET', KEYS[1]) ~= ARGV[1] then
    return {}
end
local reply, replies, arg = {}, 0, 4
for key = 2, #KEYS do
    local balance = KEYS[key]
    local now, full, prompt_only, expires_at, count = unpacked('<i7i7i7i7i2', ARGV[arg])
    local here
    if count == 1 then
        here = call('HMGET', balance, 'projection', 'state', ARGV[arg + 1])
    else
        local ids = {}
        for index = 1, count do
            ids[index] = ARGV[arg + index * 3 - 2]
        end
        here = call('HMGET', balance, 'projection', 'state', unpack(ids))
    end
    local held, next_end, young = read_state(here[2])
    local projection = held and here[1]
    local revision, available, valid_until, cycle_ends_at = read_projection(projection)
    replies = replies + 1
    reply[replies] = projection or ''

    -- `granted`: ids and holds to be written.
    local granted, is_changed = {}, false
    for index = 1, count do
        if index > 1 then
            now, full, prompt_only, expires_at = unpacked('<i7i7i7i7', ARGV[arg])
        end
        local id, answer = ARGV[arg + 1], nil
        if not projection then
            answer = 'miss'
        elseif not revision or now >= valid_until then
            answer = 'out'
        else
            if now >= next_end then
                if #granted > 0 then
                    call('HSET', balance, unpack(granted))
                    granted = {}
                end
                settle(balance)
                local live, until_now = balance .. ':live', format('%.0f', now)
                for _, ended in ipairs(call('ZRANGEBYSCORE', live, '-inf', until_now)) do
                    local credits, ended_id = string.match(ended, '^(%d+)|(.*)')
                    held = held - tonumber(credits)
                    local hold = call('HGET', balance .. ':holds', ended_id)
                    keep(balance, ended_id, hold and unpacked('<i7', hold, 22) or now, ARGV[3])
                end
                call('ZREMRANGEBYSCORE', live, '-inf', until_now)
                call('PEXPIRE', live, ARGV[2])
                call('PEXPIRE', balance .. ':holds', ARGV[2])
                call('PEXPIRE', balance .. ':kept', ARGV[2])
                forget(balance, until_now, 256)
                next_end = tonumber(call('ZRANGE', live, 0, 0, 'WITHSCORES')[2]) or never
                young, is_changed = 0, true
            end
            local known = here[index + 2] or call('HGET', balance .. ':holds', id)
            local unheld = math.max(0, available - held)
            if known then
                answer = 'known' .. known
            elseif full <= unheld or (0 < unheld and prompt_only <= unheld) then
                local credits, counts_until, hold = full, expires_at, ARGV[arg + 2]
                -- A hold of an ended cycle no longer reduces what is available (R-19a).
                if now < cycle_ends_at and cycle_ends_at < expires_at then
                    counts_until = cycle_ends_at
                end
                if full > unheld then
                    credits = unheld
                end
                if credits < full or counts_until < expires_at then
                    hold = packed('<i7i7', credits, counts_until) .. sub(hold, 15)
                end
                answer = credits
                held, young = held + credits, young + 1
                if counts_until < next_end then
                    next_end = counts_until
                end
                granted[#granted + 1], granted[#granted + 2] = id, hold
                is_changed = true
                -- The same id once more in this call.
                for later = index + 1, count do
                    if ARGV[arg + (later - index) * 3 + 1] == id then
                        here[later + 2] = hold
                    end
                end
            else
                answer = 'short' .. packed('<i7', unheld)
            end
        end
        replies = replies + 1
        reply[replies] = answer
        arg = arg + 3
    end

    if is_changed and young > young_max then
        call('HSET', balance, unpack(granted))
        granted, young = {}, 0
        settle(balance)
        call('PEXPIRE', balance .. ':live', ARGV[2])
        call('PEXPIRE', balance .. ':holds', ARGV[2])
    end
    if is_changed then
        write_state(balance, held, next_end, young, unpack(granted))
    end
end
return reply
