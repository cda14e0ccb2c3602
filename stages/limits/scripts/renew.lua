-- Begin the lease of a hold again: Ledger.renew.

for n = 0, #KEYS / 3 - 1 do
  local account = open_account(n)
  local record = record_of(account, hold)
  if record then
    if not record[1] then
      each_count(account, record, 'renew')
    end
    record[1], record[3] = true, now + lease
    save_record(account, hold, record)
    save(account, record[4])
  elseif next(account.counts) then
    save_counts(account)  -- leases ended
  end
end
