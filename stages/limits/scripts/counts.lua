-- The counts of accounts and the holds of requests in flight: stages/limits/counts.py and ledger.py
-- in Lua. `load_script` puts this text before each of the other scripts.
--
-- KEYS: three for each account, all with the hash tag of the account:
--   counts    HASH  limit -> {amount, at, empty_at} | {window, spent, reserved} | {in_flight, maximum}
--                   "hold:ID" -> {active, since, ends, items}, an item being
--                   {limit, kind, period, maximum, estimate}
--   times     ZSET  "hold:ID" -> end of the lease, an hour later if the lease has ended;
--                   "wait:ID" -> when a waiting request is dropped that did not ask again
--   waiting   ZSET  ID -> its turn: the time when it began to wait
-- ARGV[1] is the id of the hold, ARGV[2] the time (empty: the server's), ARGV[3] the lease.
--
-- A key expires when all its counts equal unused ones.
--
-- 'llm-proxy:clients' is a ZSET of accounts whose names clients choose, with the time of their last
-- admission.

local SECONDS = {minute = 60, hour = 3600, day = 86400}
local IN_FLIGHT_RETRY = 5
local EPSILON = 1e-9
local SETTLE_EXPIRED = 3600
local NEXT_TURN = 1e-6
local CLIENTS, MAX_CLIENTS = 'llm-proxy:clients', 100000

local hold, lease = ARGV[1], tonumber(ARGV[3])
local turn = false  -- of the hold, as a text; false: it does not wait
local now = tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1e6
end

local function text(number)
  return string.format('%.17g', number)
end

-- The start and the end of the day or month (UTC) that contains `now`.
local function window(period)
  local day = math.floor(now / 86400)
  if period == 'day' then
    return day * 86400, (day + 1) * 86400
  end
  -- Days to a date: http://howardhinnant.github.io/date_algorithms.html, civil_from_days.
  local z = day + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor(
    (doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local day_of_month = doy - math.floor((153 * mp + 2) / 5) + 1
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  local leap = (year % 4 == 0 and year % 100 ~= 0) or year % 400 == 0
  local length = ({31, leap and 29 or 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31})[month]
  local first = day - day_of_month + 1
  return first * 86400, (first + length) * 86400
end

-- Counts. An item is {limit, kind, period, maximum, estimate}.

local Rate = {}

function Rate.new()
  return {0, 0, -1}
end

-- Bring the amount to the time `now`. Return the rate, per second.
function Rate.leak(count, item)
  local rate = item[4] / SECONDS[item[3]]
  if now ~= count[2] then
    if now > count[2] then
      count[1] = count[1] - (now - count[2]) * rate
    end
    count[2] = now
    if count[1] <= 0 then
      count[1], count[3] = 0, now
    end
  end
  return rate
end

function Rate.lack(count, item)
  local rate = Rate.leak(count, item)
  local excess = count[1] + item[5] - item[4]
  return excess > item[4] * EPSILON and {excess / rate, false}
end

function Rate.take(count, item)
  count[1] = count[1] + item[5]
end

function Rate.settle(count, item, used, since)
  Rate.leak(count, item)
  if used > item[5] or since >= count[3] then
    count[1] = math.max(0, count[1] + used - item[5])
  end
end

function Rate.release() end

function Rate.renew() end

function Rate.level(count, item)
  local rate = Rate.leak(count, item)
  return item[4] - count[1], count[1] / rate
end

local Budget = {}

function Budget.new()
  return {0, 0, 0}
end

-- Begin the next window if it is time. Return the seconds until the end of this one. See counts.py
-- for a clock that goes back.
function Budget.roll(count, item)
  local first, last = window(item[3])
  if first > count[1] or count[1] > last then
    count[1], count[2] = first, 0
  end
  return last - now
end

function Budget.lack(count, item)
  local remaining = Budget.roll(count, item)
  local limit = item[4] * (1 + EPSILON)
  if count[2] + item[5] > limit or count[2] >= item[4] then
    return {remaining, true}
  end
  return count[2] + count[3] + item[5] > limit and {IN_FLIGHT_RETRY, false}
end

function Budget.take(count, item)
  count[3] = count[3] + item[5]
end

function Budget.settle(count, item, used)
  Budget.roll(count, item)
  count[2] = count[2] + used
end

function Budget.release(count, item)
  count[3] = count[3] - item[5]
  if count[3] < EPSILON then
    count[3] = 0
  end
end

Budget.renew = Budget.take

function Budget.level(count, item)
  local remaining = Budget.roll(count, item)
  return item[4] - count[2] - count[3], remaining
end

-- The maximum is that of the latest request that did not wait: a reloaded config may have changed it.
local Places = {}

function Places.new()
  return {0, 0}
end

function Places.lack(count, item, account)
  local rank = account.waiting_number > 0 and redis.call('ZRANK', account.waiting, hold)
  local before = rank or account.waiting_number
  if not turn then
    count[2] = item[4]
  elseif not rank and before > 0 then
    before = redis.call('ZCOUNT', account.waiting, '-inf', '(' .. turn)
  end
  return count[1] + before >= (count[2] or item[4]) and {IN_FLIGHT_RETRY, false}
end

function Places.take(count)
  count[1] = count[1] + 1
end

function Places.settle() end

function Places.release(count)
  count[1] = math.max(0, count[1] - 1)
end

Places.renew = Places.take

function Places.level(count, item)
  return item[4] - count[1], 0
end

local KINDS = {rate = Rate, budget = Budget, concurrency = Places}

-- Accounts

local function count_of(account, item)
  local limit = item[1]
  local count = account.counts[limit]
  if not count then
    local stored = redis.call('HGET', account.key, limit)
    count = stored and cmsgpack.unpack(stored) or KINDS[item[2]].new()
    account.counts[limit] = count
  end
  return count
end

local function record_of(account, id)
  local stored = redis.call('HGET', account.key, 'hold:' .. id)
  return stored and cmsgpack.unpack(stored)
end

local function save_record(account, id, record)
  redis.call('HSET', account.key, 'hold:' .. id, cmsgpack.pack(record))
  redis.call('ZADD', account.times,
    text(record[1] and record[3] or record[3] + SETTLE_EXPIRED), 'hold:' .. id)
end

local function drop_record(account, id)
  redis.call('HDEL', account.key, 'hold:' .. id)
  redis.call('ZREM', account.times, 'hold:' .. id)
end

-- Report the requests that may ask again, because places are free.
local function wake(account, item)
  local count = count_of(account, item)
  local free = (count[2] or item[4]) - count[1]
  if account.waiting_number > 0 and free > 0 then
    for _, id in ipairs(redis.call('ZRANGE', account.waiting, 0, free - 1)) do
      redis.call('PUBLISH', 'llm-proxy:ready', id)
    end
  end
end

-- Call `method` of each count of a hold.
local function each_count(account, record, method)
  for _, item in ipairs(record[4]) do
    local kind = KINDS[item[2]]
    kind[method](count_of(account, item), item)
    if kind == Places and method == 'release' then
      wake(account, item)
    end
  end
end

-- Let the hold wait no longer. Return whether it waited.
local function leave(account)
  if account.waiting_number == 0 or redis.call('ZREM', account.waiting, hold) == 0 then
    return false
  end
  redis.call('ZREM', account.times, 'wait:' .. hold)
  account.waiting_number = account.waiting_number - 1
  return true
end

local function end_lease(account, id)
  local record = record_of(account, id)
  if record and record[1] then
    record[1] = false
    each_count(account, record, 'release')
    save_record(account, id, record)
  end
  if not record or record[3] + SETTLE_EXPIRED <= now then
    drop_record(account, id)
  end
end

-- End the leases that are over, and drop the waiting requests of processes that died.
local function expire(account)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', account.times, '-inf', text(now))) do
    local id = string.sub(member, 6)
    if string.sub(member, 1, 5) == 'hold:' then
      end_lease(account, id)
    else
      account.waiting_number = account.waiting_number - redis.call('ZREM', account.waiting, id)
      redis.call('ZREM', account.times, member)
    end
  end
end

local function open_account(n)
  local account = {key = KEYS[3 * n + 1], times = KEYS[3 * n + 2], waiting = KEYS[3 * n + 3]}
  account.counts = {}
  account.waiting_number = redis.call('ZCARD', account.waiting)
  expire(account)
  return account
end

-- Write the counts that were read.
local function save_counts(account)
  local arguments = {}
  for limit, count in pairs(account.counts) do
    arguments[#arguments + 1] = limit
    arguments[#arguments + 1] = cmsgpack.pack(count)
  end
  if #arguments > 0 then
    redis.call('HSET', account.key, unpack(arguments))
  end
end

-- Write the counts. `items` are all limits of the account: they decide how long its keys live.
local function save(account, items)
  save_counts(account)
  local live = lease + SETTLE_EXPIRED
  for _, item in ipairs(items) do
    local _, reset_after = KINDS[item[2]].level(count_of(account, item), item)
    live = math.max(live, reset_after)
  end
  for _, key in ipairs({account.key, account.times, account.waiting}) do
    redis.call('EXPIRE', key, math.ceil(live) + 1)
  end
end

-- Drop the oldest counts of names that clients choose, if there are too many.
local function bound(account)
  if not string.find(account.key, '^llm%-proxy:{session:') and
      not string.find(account.key, '^llm%-proxy:{agent:') then
    return
  end
  redis.call('ZADD', CLIENTS, text(now), account.key)
  if redis.call('ZCARD', CLIENTS) <= MAX_CLIENTS then
    return
  end
  for _, key in ipairs(redis.call('ZRANGE', CLIENTS, 0, 9)) do
    local prefix = string.sub(key, 1, -#'counts' - 1)
    if redis.call('EXISTS', prefix .. 'times') == 1 then
      redis.call('ZADD', CLIENTS, text(now), key)  -- it has requests in flight
    else
      redis.call('DEL', key, prefix .. 'waiting')
      redis.call('ZREM', CLIENTS, key)
    end
  end
end
