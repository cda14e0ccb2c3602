-- End a hold, or the waiting of a request: Ledger.settle.
--
-- ARGV[4]: for each account what was used of its items, in the order of `admit`.

local used = cmsgpack.unpack(ARGV[4])
for n, amounts in ipairs(used) do
  local account = open_account(n - 1)
  if leave(account) then
    for _, id in ipairs(redis.call('ZRANGE', account.waiting, 0, 0)) do
      redis.call('PUBLISH', 'llm-proxy:ready', id)
    end
  end
  local record = record_of(account, hold)
  if record then
    for i, item in ipairs(record[4]) do
      local count = count_of(account, item)
      KINDS[item[2]].settle(count, item, amounts[i] or 0, record[2])
    end
    if record[1] then
      each_count(account, record, 'release')
    end
    drop_record(account, hold)
    save(account, record[4])
  elseif next(account.counts) then
    save_counts(account)  -- leases ended
  end
end
