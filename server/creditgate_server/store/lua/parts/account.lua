-- An account: opened with all that is due done, changed by moves, written once.
--   needs    changes
--
-- Every verb reads and decides first; only `commit` writes, and from there on nothing can fail.

-- The account as it stands now, with all that is due done; or nil and the reply that says why not.
-- `ranks` is the catalog's order of kinds. `extra` is a field to fetch as well, if any.
local function open_account(key, deadlines, ledger, closed, id, clock, ranks, turn, extra)
  local got = redis.call('HMGET', key, 'state', 'plan', 'order', extra or 'state')
  if not got[1] then
    return nil, { 'account_not_found' }
  end
  local seq, available, held, debt, open, seen, last =
    string.match(got[1], '^([^ ]+) ([^ ]+) ([^ ]+) ([^ ]+) ([^ ]+) ([^ ]+) ([^ ]+)$')
  local due, limits, turn_at, ranked, frozen, profile, version, plan, cap, schedule =
    string.match(got[2], '^([^ ]+) ([^ ]+) ([^ ]+) ([^ ]+) (.) ([^ ]+ [^ ]+) ([^ ]+) ([^ ]+) ([^ ]+)(.*)$')
  if string.sub(last, 1, 1) == '-' then
    last = seen .. last
  end
  seen = seen + 0
  -- At most 32 fields, with those that verbs add: one more would make the table twice as large.
  local a = {
    key = key, deadlines = deadlines, ledger = ledger, closed = closed, id = id,
    seq = seq + 0, available = available + 0, held = held + 0, debt = debt + 0, open = open + 0,
    seen = seen, now = instant(clock, seen), due = tonumber(due, 36), limited = limits + 0,
    turn = tonumber(turn_at, 36), ranks = ranked, frozen = frozen, profile = profile, version = version, plan = plan,
    cap = cap, schedule = schedule, last = last, found = got[4],
    order = got[3] or ' ', row = {}, moves = '', entries = {}, sets = {},
  }
  if ranks ~= ranked then
    -- The catalog ranks kinds in another way now; this account is sorted anew, once.
    local list = lists(a)
    local names = list.names_of('order')
    list.clear('order')
    a.ranks, a.changed = ranks, true
    for _, name in ipairs(names) do
      list.insert('order', row_of(a, name))
    end
  end
  -- The first turn of all comes when the catalog has plans: no moment is noted for it.
  local first = version == '0' and turn ~= ''
  if first or (a.turn > 0 and a.now >= a.turn) then
    local due = changes(a).apply_turn(turn)
    if due then
      return nil, due
    end
  elseif a.due > 0 and a.now >= a.due then
    changes(a).catch_up()
  end
  return a
end

-- Write. From here on it must succeed. Gives the totals and the time, with which every answer begins.
local function commit(a)
  local totals, now = string.format('%d %d %d %d ', a.seq, a.available, a.held, a.debt), text(a.now)
  local entries, sets, drops, hold, share = a.entries, a.sets, nil, a.saved, a.share
  -- No row changes without an entry.
  if #entries == 0 and #sets == 0 and hold == nil and not a.changed
    and (a.lists == nil or next(a.lists.changed) == nil) then
    return totals .. now
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
  if hold ~= nil then
    if hold.state == 'O' then
      put(a, 'h:' .. hold.id, hold.record)
      if hold.deadline ~= hold.listed then
        redis.call('ZADD', a.deadlines, text(hold.deadline), a.id .. '/' .. hold.id)
      end
    else
      redis.call('HSET', a.closed, closed_field(a.id, hold.id), hold.record)
      if hold.was_open then
        drops = { 'h:' .. hold.id }
        redis.call('ZREM', a.deadlines, a.id .. '/' .. hold.id)
      end
    end
  end
  if a.lists ~= nil then
    drops = drops or {}
    a.lists.note(sets, drops)
  end
  if share ~= nil and share.member ~= nil then
    put(a, 'm:' .. share.member, string.format('%s %d %s', share.own, share.used, a.cap))
  end
  for name, row in pairs(a.row) do
    if row.touched then
      put(a, 'b:' .. name, row_record(row))
    end
  end
  if a.changes or a.changed then
    put(a, 'plan', string.format('%s %d %s %s %s %s %s', moment(a.due), a.limited, moment(a.turn), a.ranks, a.frozen,
      a.profile, schedule_of(a)))
  end
  local seen, last = #entries > 0 and now or text(a.seen), a.last
  if string.find(last, seen .. '-', 1, true) == 1 then
    last = string.sub(last, #seen + 1)
  end
  put(a, 'state', totals .. text(a.open) .. ' ' .. seen .. ' ' .. last)
  -- In pieces: `unpack` takes some thousands of values at most.
  for first = 1, #sets, 1000 do
    redis.call('HSET', a.key, unpack(sets, first, math.min(first + 999, #sets)))
  end
  for first = 1, drops and #drops or 0, 1000 do
    redis.call('HDEL', a.key, unpack(drops, first, math.min(first + 999, #drops)))
  end
  return totals .. now
end

-- Write what was decided, and say what it came to: the outcome, the totals, then what the verb adds.
local function answer(a, outcome, ...)
  return { outcome, commit(a), ... }
end
