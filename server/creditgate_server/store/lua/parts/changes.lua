-- How credits move between the figures of rows, how rows come and end, and turns of the account's plan.
--   needs    base rows lists
--
-- Plans and periods are worked out beside the store. When `turn_ms` has come, or an event changes the
-- subscription, a script is called again with a *turn*: lines of words, the first one
-- "of version turn_ms plan cap_period", the second what else there is of the next schedule, then what is done to
-- rows. It is applied if the account's version is still `of`, in the same step as the operation that found it due.
-- A turn of "?" says that the catalog has plans: an account older than them then begins the one they begin with.

local function put(a, field, value)
  local sets = a.sets
  sets[#sets + 1] = field
  sets[#sets + 1] = value
end

-- Move `n` credits between two figures of a row. Nothing else changes a row.
-- `row` may be one that is not kept any more: { name, kind, gone = true }.
local function move(a, row, from, to, n)
  if n == 0 then
    return
  end
  local moves = a.moves
  a.moves = moves .. (moves == '' and '' or ',') .. from .. to .. '/' .. text(n) .. '/' .. row.kind .. '/' .. row.name
  -- What is available in a frozen row is shown with the row, and is no part of the totals.
  local spendable = row.status ~= 'F'
  if from == 'a' and spendable then a.available = a.available - n elseif from == 'h' then a.held = a.held - n end
  if to == 'a' and spendable then a.available = a.available + n elseif to == 'h' then a.held = a.held + n end
  if row.gone then
    return
  end
  if to == 'e' or to == 'v' then
    whole(row)
  end
  local had = row.a
  -- What was granted is no figure of its own: it is what the others come to.
  if from ~= 'g' then
    row[from] = row[from] - n
  end
  row[to] = row[to] + n
  row.touched = true
  if not spendable then
    return
  end
  if had > 0 and row.a == 0 then
    lists(a).remove('order', row)
  elseif had == 0 and row.a > 0 then
    lists(a).insert('order', row)
  end
end

-- Close one change: it gets the next number, the moves made since the last one, and the totals after it.
local function record(a, verb, hold, operation, debt_change, row)
  a.seq = a.seq + 1
  local id, member, action, model = '*', '*', '*', '*'
  if hold then
    id, member, action, model = hold.id, hold.member, hold.action, hold.model
  end
  a.entries[#a.entries + 1] = string.format('%d %d ', a.seq, a.now) .. verb .. ' ' .. (row and row.name or '*') .. ' '
    .. id .. ' ' .. (operation ~= '' and operation or '*') .. ' ' .. member .. ' ' .. action .. ' ' .. model .. ' '
    .. (a.moves == '' and '*' or a.moves)
    .. string.format(' %d %d %d %d', debt_change or 0, a.available, a.held, a.debt)
  a.moves = ''
end

-- The schedule as it will stand after this script.
local function schedule_of(a)
  return a.version .. ' ' .. a.plan .. ' ' .. a.cap .. a.schedule
end

-- Made only when rows come or end: a script makes its functions anew at every call.
local function changes(a)
  if a.changes then
    return a.changes
  end
  local list = lists(a)

  local function limited(row)
    whole(row)
    return (row.actions ~= '*' or row.models ~= '*') and 1 or 0
  end

  -- A row joins the account, empty.
  local function add_row(name, kind, ends_ms, actions, models)
    local row = {
      name = name, kind = kind, a = 0, h = 0, s = 0, e = 0, v = 0, ends = ends_ms, created = a.now,
      status = 'L', actions = actions, models = models,
    }
    a.row[name] = row
    row.touched = true
    a.limited = a.limited + limited(row)
    list.insert('rows', row)
    if ends_ms > 0 then
      list.insert('ends', row)
      if a.due == 0 or ends_ms < a.due then a.due = ends_ms end
    end
    return row
  end

  -- A row has no end to come any more.
  local function without_end(row)
    if whole(row).ends > 0 then
      list.remove('ends', row)
      local next_name = string.match(list.chunk('ends'), '^ (%S+)')
      a.due = next_name and whole(row_of(a, next_name)).ends or 0
    end
  end

  -- A row ends: what is available goes to `figure`; what is held stays until it comes back.
  local function end_row(row, figure, status)
    move(a, row, 'a', figure, row.a)
    if row.status == 'L' then
      a.limited = a.limited - limited(row)
    end
    row.status = status
    row.touched = true
    without_end(row)
  end

  -- A live row is not to be spent, or a frozen one is again. What it holds stays where it is.
  local function freeze_row(row)
    list.remove('order', row)
    a.available = a.available - row.a
    a.limited = a.limited - limited(row)
    row.status = 'F'
    row.touched = true
    record(a, 'freeze_bucket', nil, nil, 0, row)
  end

  local function thaw_row(row)
    row.status = 'L'
    a.available = a.available + row.a
    a.limited = a.limited + limited(row)
    if row.a > 0 then
      list.insert('order', row)
    end
    row.touched = true
    record(a, 'thaw_bucket', nil, nil, 0, row)
  end

  -- Credits arrive in a row, as one change; a debt takes its part of them, as another.
  local function arrive(row, n, verb)
    move(a, row, 'g', 'a', n)
    record(a, verb, nil, nil, 0, row)
    local paid = math.min(a.debt, n)
    if paid > 0 then
      move(a, row, 'a', 's', paid)
      a.debt = a.debt - paid
      record(a, 'pay_debt', nil, nil, -paid, row)
    end
  end

  -- What is due before anything else: rows whose end has passed.
  local function catch_up()
    while a.due > 0 and a.due <= a.now do
      local row = row_of(a, string.match(list.chunk('ends'), '^ (%S+)'))
      end_row(row, 'e', 'E')
      record(a, 'end_bucket', nil, nil, 0, row)
    end
  end

  -- The rows of this status, and of this kind if it is said.
  local function live_rows(kind, status)
    local rows = {}
    for _, name in ipairs(list.names_of('rows')) do
      local row = row_of(a, name)
      if row.status == status and (kind == nil or row.kind == kind) then
        rows[#rows + 1] = row
      end
    end
    return rows
  end

  -- The changes of rows that a turn may ask for, by their word. A row that is not there any more is passed over.
  local TURNS = {
    begin = function(name, kind, amount, ends, actions, models, _, _, rolled)
      if row_of(a, name) == nil then
        local n = math.min(tonumber(amount) + rolled, AMOUNT_MAX - a.available - a.held)
        arrive(add_row(name, kind, tonumber(ends), actions, models), n, 'begin_period')
      end
    end,
    more = function(name, amount)
      local row = row_of(a, name)
      if row and row.status == 'L' then
        arrive(row, math.min(tonumber(amount), AMOUNT_MAX - a.available - a.held), 'adjust')
      end
    end,
    at_most = function(name, amount)
      local row = row_of(a, name)
      if row and row.status == 'L' and row.a > tonumber(amount) then
        move(a, row, 'a', 'e', row.a - amount)
        record(a, 'adjust', nil, nil, 0, row)
      end
    end,
    ['end'] = function(name)
      local row = row_of(a, name)
      if row and (row.status == 'L' or row.status == 'F') then
        end_row(row, 'e', 'E')
        record(a, 'end_bucket', nil, nil, 0, row)
      end
    end,
    keep = function(name)
      local row = row_of(a, name)
      if row and row.status == 'L' and whole(row).ends > 0 then
        without_end(row)
        list.remove('order', row)
        row.ends = 0
        if row.a > 0 then
          list.insert('order', row)
        end
        row.touched = true
        record(a, 'adjust', nil, nil, 0, row)
      end
    end,
    freeze = function(name)
      local row = row_of(a, name)
      if row and row.status == 'L' then
        freeze_row(row)
      end
    end,
    lapse = function(kind, how)
      for _, row in ipairs(live_rows(kind, 'L')) do
        if how == 'freeze' then
          freeze_row(row)
        else
          end_row(row, 'e', 'E')
          record(a, 'end_bucket', nil, nil, 0, row)
        end
      end
    end,
    thaw = function()
      for _, row in ipairs(live_rows(nil, 'F')) do
        -- A row for which the totals have no room waits for another thaw.
        if row.a <= AMOUNT_MAX - a.available - a.held then
          thaw_row(row)
        end
      end
    end,
  }

  -- Apply a turn if it was worked out from the account as it is; else the reply that asks for one.
  local function apply_turn(turn)
    if string.match(turn, '^(%d+) ') ~= a.version then
      return { 'turn_due', text(a.now), schedule_of(a) }
    end
    local version, turn_ms, plan, cap, schedule, asked =
      string.match(turn, '^%d+ (%d+) (%d+) (%S+) (%d+)\n([^\n]*)\n?(.*)$')
    local work = {}
    for change in string.gmatch(asked, '[^\n]+') do
      local words = {}
      for word in string.gmatch(change, '%S+') do
        words[#words + 1] = word
      end
      if words[1] == 'keep' then
        -- The plan was left before the row's end came, though it has come by now.
        TURNS.keep(words[2])
      elseif words[1] == 'begin' then
        -- What rolls over is looked up before its row ends.
        local row = words[8] ~= '*' and row_of(a, words[8])
        words[10] = row and row.status == 'L' and math.min(row.a, tonumber(words[9])) or 0
      end
      work[#work + 1] = words
    end
    catch_up()
    for _, words in ipairs(work) do
      TURNS[words[1]](unpack(words, 2))
    end
    a.version, a.turn, a.plan, a.cap = version, tonumber(turn_ms), plan, cap
    a.schedule = schedule == '' and '' or ' ' .. schedule
    a.turned, a.changed = true, true
    return nil
  end

  a.changes = { add_row = add_row, end_row = end_row, arrive = arrive, catch_up = catch_up, apply_turn = apply_turn }
  return a.changes
end
