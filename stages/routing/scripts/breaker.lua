-- Send a change of a circuit breaker, and return those that are open: {target, seconds to go}.
--
-- KEYS[1] is a ZSET of targets, with the end of their cool-down.
-- ARGV: target (empty: none changes), change, cool-down in seconds, channel, message.

local target, change, cooldown = ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if target ~= '' then
  if change == 'opened' then
    redis.call('ZADD', KEYS[1], string.format('%.17g', now + cooldown), target)
  elseif change == 'closed' then
    redis.call('ZREM', KEYS[1], target)
  end
  redis.call('PUBLISH', ARGV[4], ARGV[5])
end
local open = {}
for _, name in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  open[#open + 1] = {name, tostring(redis.call('ZSCORE', KEYS[1], name) - now)}
end
return open
