-- Remove a call, and start the next: CallQueue.leave.
--
-- ARGV[5] is the call, ARGV[6] the seconds that it took (empty: it has not succeeded).

begin()
if ARGV[6] ~= '' then
  record_duration(tonumber(ARGV[6]))
end
drop(ARGV[5])
start_due()
return finish('')
