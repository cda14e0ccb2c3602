-- The running and waiting calls of one backend: stages/backends/fair_queue.py in Lua, with leases.
-- `load_script` puts this text before each of the other scripts.
--
-- KEYS, all with the hash tag of the queue:
--   state    HASH  slots, turn, short_in_a_row, mean_duration
--   leases   ZSET  call -> end of its lease
--   running  SET   call
--   waiting  HASH  call -> path, which is 's' or 'l' (short or long), its client and its session
--   turns    ZSET  parent:turn:child, all with the score 0, so in the order of their bytes
--   nodes    HASH  parent and child -> member of `turns`
-- ARGV[1] is the time (empty: the server's), ARGV[2] the lease, ARGV[3] the process of the caller,
-- ARGV[4] the number of slots (empty: as before).
--
-- A call is PROCESS:NUMBER. Clients and sessions are names of 16 characters.
--
-- `turns` has the groups of waiting calls: a kind has clients, a client sessions, a session calls.
-- The child with the lowest turn is next. A client and a session then get a new turn, after the
-- others of their group.
--
-- Keys expire when no call was renewed for two leases, `state` after a day.

local STATE, LEASES, RUNNING, WAITING, TURNS, NODES = unpack(KEYS)
local lease, process = tonumber(ARGV[2]), ARGV[3]
local SHORT_IN_A_ROW = 3
local FIRST_DURATION, WEIGHT_OF_NEWEST = 5, 0.2
local NAME, DAY = 16, 86400
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1e6
end

local function get(name, default)
  return tonumber(redis.call('HGET', STATE, name) or default)
end

local function set(name, number)
  redis.call('HSET', STATE, name, string.format('%.17g', number))
end

-- Groups. `parent` is the start of a path.

local function first(parent)
  local range = {'[' .. parent .. ':', '(' .. parent .. ';'}
  local member = redis.call('ZRANGEBYLEX', TURNS, range[1], range[2], 'LIMIT', 0, 1)[1]
  return member and string.sub(member, #parent + 18)
end

local function add(parent, child)
  if redis.call('HEXISTS', NODES, parent .. child) == 0 then
    local turn = redis.call('HINCRBY', STATE, 'turn', 1)
    local member = string.format('%s:%015d:%s', parent, turn, child)
    redis.call('ZADD', TURNS, 0, member)
    redis.call('HSET', NODES, parent .. child, member)
  end
end

local function remove(parent, child)
  redis.call('ZREM', TURNS, redis.call('HGET', NODES, parent .. child))
  redis.call('HDEL', NODES, parent .. child)
end

-- The groups of a path, the innermost first: {parent, child}.
local function groups(path)
  return {
    {string.sub(path, 1, 1 + NAME), string.sub(path, 2 + NAME)},
    {string.sub(path, 1, 1), string.sub(path, 2, 1 + NAME)},
  }
end

local function put(path, call)
  for _, group in ipairs(groups(path)) do
    add(group[1], group[2])
  end
  add(path, call)
  redis.call('HSET', WAITING, call, path)
end

-- Remove a waiting call. `takes_turn`: its session and its client have had their turn.
local function take(path, call, takes_turn)
  redis.call('HDEL', WAITING, call)
  remove(path, call)
  for _, group in ipairs(groups(path)) do
    local is_empty = not first(group[1] .. group[2])
    if is_empty or takes_turn then
      remove(group[1], group[2])
    end
    if takes_turn and not is_empty then
      add(group[1], group[2])
    end
  end
end

local function waiting()
  return redis.call('HLEN', WAITING)
end

-- Calls.

local started = {}  -- of this process; the others get a message

local function run(call)
  redis.call('SADD', RUNNING, call)
end

local function start(call)
  run(call)
  local owner = string.match(call, '^(.*):')
  if owner == process then
    started[#started + 1] = call
  else
    redis.call('PUBLISH', 'llm-proxy:calls:' .. owner, call)
  end
end

local function next_kind()
  local in_a_row = get('short_in_a_row', 0)
  local has_long = first('l')
  if first('s') and not (has_long and in_a_row == SHORT_IN_A_ROW) then
    set('short_in_a_row', has_long and in_a_row + 1 or 0)
    return 's'
  end
  set('short_in_a_row', 0)
  return 'l'
end

local function has_free_slot()
  return redis.call('SCARD', RUNNING) < get('slots', 1)
end

local function start_due()
  while waiting() > 0 and has_free_slot() do
    local path = next_kind()
    path = path .. first(path)
    path = path .. first(path)
    local call = first(path)
    take(path, call, true)
    start(call)
  end
  if waiting() == 0 then
    redis.call('HDEL', STATE, 'short_in_a_row')
  end
end

local function drop(call)
  redis.call('ZREM', LEASES, call)
  if redis.call('SREM', RUNNING, call) == 0 then
    local path = redis.call('HGET', WAITING, call)
    if path then
      take(path, call, false)
    end
  end
end

local function renew(call)
  redis.call('ZADD', LEASES, string.format('%.17g', now + lease), call)
end

local function record_duration(seconds)
  local mean = get('mean_duration', FIRST_DURATION)
  set('mean_duration', mean + WEIGHT_OF_NEWEST * (seconds - mean))
end

local function retry_after()
  local seconds = get('mean_duration', FIRST_DURATION) * (waiting() + 1) / get('slots', 1)
  return math.min(60, math.max(1, math.ceil(seconds)))
end

-- Set the slots, and drop the calls of processes that died.
local function begin()
  for _, call in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', now)) do
    drop(call)
  end
  if ARGV[4] ~= '' then
    set('slots', tonumber(ARGV[4]))
  end
  start_due()
end

-- The response: retry_after, the result of the script, and the calls of this process that started.
local function finish(result)
  for _, key in ipairs(KEYS) do
    redis.call('EXPIRE', key, math.ceil(key == STATE and math.max(DAY, 2 * lease) or 2 * lease) + 1)
  end
  return {retry_after(), result, started}
end
