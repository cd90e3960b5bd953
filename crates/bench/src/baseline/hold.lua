-- Holds Credits once per hold id.
-- KEYS: the account's hash, its holds, its holds' expiries
-- ARGV: hold id, Credits, expires at (ms)
local account = redis.call('HMGET', KEYS[1], 'balance', 'held')
local balance, held = tonumber(account[1] or '0'), tonumber(account[2] or '0')
if balance - held < tonumber(ARGV[2]) then
    return 0
end
if redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[2]) == 1 then
    redis.call('HINCRBY', KEYS[1], 'held', ARGV[2])
    redis.call('ZADD', KEYS[3], ARGV[3], ARGV[1])
end
return 1
