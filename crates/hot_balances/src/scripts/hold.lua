-- Holds Credits for requests of any accounts, once per hold id (R-28).
-- KEYS: marker, then of each request its account's balance
-- ARGV: epoch, life of the holds (ms), how long one is kept past its expiry, what the prompt of each request costs, then of
--       each request: ':ID'; and the hold as it is if all of it is granted
-- Answers, of each request: its account's projection, or ''; and the Credits held, or 'known' and the hold, 'short' and what
-- is unheld, 'out' (loaded, and run out) or 'miss'. Nothing at all where the epoch is another one.

-- Past so many, young holds are put to the others: what has to be looked through stays short.
local young_max = 250

if call('GET', KEYS[1]) ~= ARGV[1] then
    return {}
end
local prompts, reply = ARGV[4], {}
-- What was read last, kept up to date: requests of one account that come together read it once.
local balance, projection, held, next_end, young, others, revision, available, valid_until, cycle_ends_at
for index = 1, #KEYS - 1 do
    local id, hold = ARGV[index * 2 + 3], ARGV[index * 2 + 4]
    local known
    if KEYS[index + 1] == balance then
        known = held and call('HGET', balance, id)
    else
        balance = KEYS[index + 1]
        local here = call('HMGET', balance, 'projection', 'state', id)
        held, next_end, young, others = read_state(here[2])
        projection = held and here[1]
        revision, available, valid_until, cycle_ends_at = read_projection(projection)
        known = here[3]
    end
    local full, expires_at, now = unpacked('<i7i7i7', hold)
    local answer
    if not projection then
        answer = 'miss'
    elseif not revision or now >= valid_until then
        answer = 'out'
    else
        local is_changed = false
        if now >= next_end then
            settle(balance)
            local live, until_now = balance .. ':live', format('%d', now)
            for _, ended in ipairs(call('ZRANGEBYSCORE', live, '-inf', until_now)) do
                local credits, ended_id = string.match(ended, '^(%d+)|(.*)')
                held = held - tonumber(credits)
                local ended_hold = call('HGET', balance .. ':holds', ended_id)
                keep(balance, ended_id, ended_hold and unpacked('<i7', ended_hold, 22) or now, ARGV[3])
            end
            call('ZREMRANGEBYSCORE', live, '-inf', until_now)
            call('PEXPIRE', live, ARGV[2])
            call('PEXPIRE', balance .. ':holds', ARGV[2])
            call('PEXPIRE', balance .. ':kept', ARGV[2])
            forget(balance, until_now, 256)
            next_end = tonumber(call('ZRANGE', live, 0, 0, 'WITHSCORES')[2]) or never
            young, others, is_changed = 0, 1, true
        end
        known = known or others > 0 and call('HGET', balance .. ':holds', id)
        local unheld = math.max(0, available - held)
        if known then
            answer = 'known' .. known
        elseif full <= unheld or (0 < unheld and unpacked('<i7', prompts, index * 7 - 6) <= unheld) then
            local credits, counts_until = full, expires_at
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
            write_state(balance, held, next_end, young, others, id, hold)
            is_changed = false
            if young > young_max then
                settle(balance)
                call('PEXPIRE', balance .. ':live', ARGV[2])
                call('PEXPIRE', balance .. ':holds', ARGV[2])
                young, others, is_changed = 0, 1, true
            end
        else
            answer = 'short' .. packed('<i7', unheld)
        end
        if is_changed then
            write_state(balance, held, next_end, young, others)
        end
    end
    reply[index * 2 - 1], reply[index * 2] = projection or '', answer
end
return reply
