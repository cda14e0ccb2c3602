-- Take from all wants, or from none: Ledger.admit.
--
-- ARGV[4]: seconds after which a waiting request is dropped that did not ask again; 0: do not wait.
-- ARGV[5]: for each account its items {limit, kind, period, maximum, amount, index of the want}.
-- Returns {want, retry_after, used_up, levels}. `want` is -1 if the request is admitted. `levels`
-- has remaining and reset_after of each want, in the order of the wants.

local patience = tonumber(ARGV[4])
local wants = cmsgpack.unpack(ARGV[5])
local accounts, active = {}, false
for n, items in ipairs(wants) do
  local account = open_account(n - 1)
  accounts[n] = account
  turn = turn or account.waiting_number > 0 and redis.call('ZSCORE', account.waiting, hold)
  local record = record_of(account, hold)
  active = active or (record and record[1])
  for _, item in ipairs(items) do
    item[5] = math.min(item[5], item[4])
  end
end

local function save_all()
  for n, items in ipairs(wants) do
    save(accounts[n], items)
  end
end

local function result(want, retry_after, used_up)
  local levels = {}
  for n, items in ipairs(wants) do
    for _, item in ipairs(items) do
      local remaining, reset_after = KINDS[item[2]].level(count_of(accounts[n], item), item)
      levels[2 * item[6] + 1], levels[2 * item[6] + 2] = remaining, reset_after
    end
  end
  return cmsgpack.pack({want, retry_after, used_up, levels})
end

if active then
  local levels = result(-1, 0, false)
  save_all()
  return levels
end

-- Whether a lack matters more than another: the longest of those that a wait for a place does not
-- help, and of equal ones the first.
local function is_worse(lack, item, other, other_item)
  if lack[2] ~= other[2] then
    return lack[2]
  end
  local place, other_place = item[2] == 'concurrency', other_item[2] == 'concurrency'
  if place ~= other_place then
    return other_place
  end
  if lack[1] ~= other[1] then
    return lack[1] > other[1]
  end
  return item[6] < other_item[6]
end

local worst, worst_item, worst_account
for n, items in ipairs(wants) do
  for _, item in ipairs(items) do
    local count = count_of(accounts[n], item)
    local lack = KINDS[item[2]].lack(count, item, accounts[n])
    if lack and (not worst or is_worse(lack, item, worst, worst_item)) then
      worst, worst_item, worst_account = lack, item, accounts[n]
    end
  end
end

-- Let the hold wait no longer.
local function leave_all(but)
  for _, account in ipairs(accounts) do
    if account ~= but then
      leave(account)
    end
  end
end

-- Report those that have a place now. A reload may have made more places.
local function wake_all()
  for n, items in ipairs(wants) do
    for _, item in ipairs(items) do
      if item[2] == 'concurrency' then
        wake(accounts[n], item)
      end
    end
  end
end

if not worst then
  for n, items in ipairs(wants) do
    local account = accounts[n]
    for _, item in ipairs(items) do
      KINDS[item[2]].take(count_of(account, item), item)
    end
    save_record(account, hold, {true, now, now + lease, items})
    bound(account)
  end
  leave_all()
  wake_all()
  local levels = result(-1, 0, false)
  save_all()
  return levels
end

local waits = patience > 0 and worst_item[2] == 'concurrency'
leave_all(waits and worst_account)
if waits then
  local account = worst_account
  if not redis.call('ZSCORE', account.waiting, hold) then
    if not turn then
      local last = redis.call('ZRANGE', account.waiting, -1, -1, 'WITHSCORES')[2]
      turn = text(math.max(now, (tonumber(last) or 0) + NEXT_TURN))
    end
    redis.call('ZADD', account.waiting, turn, hold)
    account.waiting_number = account.waiting_number + 1
  end
  redis.call('ZADD', account.times, text(now + patience), 'wait:' .. hold)
end
wake_all()
local levels = result(worst_item[6], worst[1], worst[2])
save_all()
return levels
