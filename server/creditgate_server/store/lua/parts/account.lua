-- An account: opened with all that is due done, changed by moves, written once.
--   needs    base rows lists changes
--
-- Every verb reads and decides first; only `commit` writes, and from there on nothing can fail.

-- The account as it stands now, with all that is due done; or nil and the reply that says why not.
-- `ranks` is the catalog's order of kinds. `extra` is a field to fetch as well.
local function open_account(key, deadlines, ledger, closed, id, clock, ranks, turn, extra)
  local got = redis.call('HMGET', key, 'state', 'order', extra)
  if not got[1] then
    return nil, { 'account_not_found' }
  end
  local seq, available, held, debt, open, seen, due, limits, turn_ms, ranked, version, plan, cap, frozen, last =
    string.match(got[1], '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%S+) (%d+) (%S+) (%d+) (%d) (%S+)$')
  seen = seen + 0
  local a = {
    key = key, deadlines = deadlines, ledger = ledger, closed = closed, id = id,
    seq = seq + 0, available = available + 0, held = held + 0, debt = debt + 0, open = open + 0,
    seen = seen, now = instant(clock, seen), due = due + 0, limited = limits + 0, turn = turn_ms + 0,
    ranks = ranked, version = version, plan = plan, cap = cap, frozen = frozen, last = last, found = got[3],
    row = {}, touched = {}, lists = { order = got[2] or ' ' }, relisted = {}, moves = '', entries = {}, sets = {},
  }
  if ranks ~= ranked then
    -- The catalog ranks kinds in another way now; this account is sorted anew, once.
    local order = lists()
    local names = order.names_of(a, 'order')
    a.ranks = ranks
    order.clear(a, 'order')
    for _, name in ipairs(names) do
      order.insert(a, 'order', row_of(a, name), drawn_before)
    end
  end
  -- The first turn of all comes when the catalog has plans: no moment is noted for it.
  local first = version == '0' and turn ~= ''
  if not first and (a.turn == 0 or a.now < a.turn) then
    if a.due > 0 and a.due <= a.now then
      changes().catch_up(a)
    end
  elseif fits(a, turn) then
    changes().apply_turn(a, turn)
  else
    return nil, turn_due(a)
  end
  return a
end

-- Write. From here on it must succeed.
local function commit(a)
  a.totals = string.format('%d %d %d %d ', a.seq, a.available, a.held, a.debt)
  local entries, sets, drops, hold = a.entries, a.sets, {}, a.saved
  if #entries == 0 and hold == nil and next(a.relisted) == nil and #a.touched == 0 and #sets == 0 and not a.changed then
    return
  end
  if a.created then
    -- Every key of the partition is there from its first account on: see the map.
    redis.call('ZADD', a.deadlines, '+inf', '*')
    redis.call('HSETNX', a.closed, '*', '-')
    if redis.call('EXISTS', a.ledger) == 0 then
      redis.call('XADD', a.ledger, 'MAXLEN', '0', '*', 'entry', '')
    end
  end
  for i = 1, #entries do
    a.last = redis.call('XADD', a.ledger, '*', 'entry', a.id .. ' ' .. a.last .. ' ' .. entries[i])
  end
  for i = 1, #a.touched do
    local row = a.touched[i]
    put(a, 'b:' .. row.name, row_record(row))
  end
  relist(a, sets, drops)
  if hold ~= nil then
    local member = a.id .. '/' .. hold.id
    if hold.state == 'O' then
      put(a, 'h:' .. hold.id, hold.record)
      if hold.deadline ~= hold.listed then
        redis.call('ZADD', a.deadlines, text(hold.deadline), member)
      end
    else
      redis.call('HSET', a.closed, member, hold.record)
      if hold.was_open then
        drops[#drops + 1] = 'h:' .. hold.id
        redis.call('ZREM', a.deadlines, member)
      end
    end
  end
  local share = a.share
  if share ~= nil and share.member ~= nil then
    put(a, 'm:' .. share.member, string.format('%s %d %s', share.own, share.used, a.cap))
  end
  put(a, 'state', string.format('%s%d %d %d %d %d %s %s %s %s %s %s', a.totals, a.open,
    #entries > 0 and a.now or a.seen, a.due, a.limited, a.turn, a.ranks, a.version, a.plan, a.cap, a.frozen, a.last))
  -- In pieces: `unpack` takes some thousands of values at most.
  for first = 1, #sets, 1000 do
    redis.call('HSET', a.key, unpack(sets, first, math.min(first + 999, #sets)))
  end
  for first = 1, #drops, 1000 do
    redis.call('HDEL', a.key, unpack(drops, first, math.min(first + 999, #drops)))
  end
end

-- Write what was decided, and say what it came to: the outcome, the totals, then what the verb adds.
local function answer(a, outcome, ...)
  commit(a)
  return { outcome, a.totals .. text(a.now), ... }
end
