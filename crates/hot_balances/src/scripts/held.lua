-- What the live holds of an account come to at an instant. Changes nothing.
-- KEYS: marker, balance, live holds
-- ARGV: epoch, now
-- Answers the Credits held, 'miss' or 'lost'.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 'lost'
end
local held = tonumber(redis.call('HGET', KEYS[2], 'held'))
if not held then
    return 'miss'
end
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', ARGV[2])) do
    held = held - tonumber(string.match(member, '^%d+'))
end
return string.format('%.0f', held)
