-- Add what requests used while the store was lost. The id in place of a hold is that of the charge:
-- a repetition within an hour changes nothing.
--
-- ARGV[4]: for each account all its items {limit, kind, period, maximum, amount}.

for n, items in ipairs(cmsgpack.unpack(ARGV[4])) do
  local account = open_account(n - 1)
  if not record_of(account, hold) then
    for _, item in ipairs(items) do
      local used = item[5]
      item[5] = 0
      local count = count_of(account, item)
      KINDS[item[2]].settle(count, item, used, now)
    end
    save_record(account, hold, {false, now, now, {}})
    save(account, items)
  end
end
