-- Begin the leases of the calls of a process again. Add those that the store does not know: it was
-- lost, or has restarted.
--
-- ARGV[5] has calls that have left; ARGV[6] running calls; ARGV[7] waiting calls, each with its
-- path. A call that runs in the store and waits in the process is among the started calls.

for _, call in ipairs(cmsgpack.unpack(ARGV[5])) do
  drop(call)
end
for _, call in ipairs(cmsgpack.unpack(ARGV[6])) do
  if redis.call('SISMEMBER', RUNNING, call) == 0 then
    drop(call)
    run(call)
  end
  renew(call)
end
for _, item in ipairs(cmsgpack.unpack(ARGV[7])) do
  local call, path = item[1], item[2]
  if redis.call('SISMEMBER', RUNNING, call) == 1 then
    started[#started + 1] = call
  elseif redis.call('HEXISTS', WAITING, call) == 0 then
    put(path, call)
  end
  renew(call)
end
begin()
return finish('')
