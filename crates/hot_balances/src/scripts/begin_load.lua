-- Begins loads of accounts: from now on what is published of one of them leaves its revision behind, and nothing older is
-- loaded (R-35).
-- KEYS: marker, then the balance of each account
-- ARGV: epoch, how long a load may take (ms), what tells this call's tickets from those of others
-- Answers each account's ticket, which all loads have that are under way at the same time. Nothing at all where the epoch is
-- another one.
if call('GET', KEYS[1]) ~= ARGV[1] then
    return {}
end
-- This run's own: the call may have come twice, and the first ticket be over.
local time, tickets = call('TIME'), {}
local ticket = ARGV[3] .. time[1] .. '.' .. time[2]
for key = 2, #KEYS do
    local balance = KEYS[key]
    local here = call('HMGET', balance, 'loading', 'state')
    if not here[1] then
        call('HSET', balance, 'loading', ticket)
    end
    if not here[2] then
        -- Counted from the first one: the floor would never go where PostgreSQL has lost what was published.
        call('PEXPIRE', balance, ARGV[2], 'NX')
    end
    tickets[key - 1] = here[1] or ticket
end
return tickets
