-- Add a call: CallQueue.enter. A call that is there already stays as it is.
--
-- ARGV[5] is the call, ARGV[6] its path, ARGV[7] the number of calls that may wait.
-- The result is 'running', 'waiting', or the number of waiting calls if the call was not added.

local call, path = ARGV[5], ARGV[6]
begin()
if redis.call('SISMEMBER', RUNNING, call) == 1 then
  return finish('running')
elseif redis.call('HEXISTS', WAITING, call) == 1 then
  return finish('waiting')
elseif has_free_slot() then
  run(call)
  renew(call)
  return finish('running')
elseif waiting() >= tonumber(ARGV[7]) then
  return finish(waiting())
end
put(path, call)
renew(call)
return finish('waiting')
