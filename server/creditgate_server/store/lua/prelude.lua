-- Put in front of every script. What all verbs share: the keys, the records, and the ways in which credits move.
--
-- The keys. All of one partition carry its hash tag, so that a script never leaves its slot.
--   account    creditgate:{tag}:account:<account_id>    hash
--     state      seq available held debt open_holds clock_ms due_ms limited ranks turn_ms version plan cap_period
--                frozen last_entry
--     profile    zone created_ms
--     schedule   what `core.schedule` keeps of plan and periods; nothing here reads it
--     denied     the last denial: seq reason hold action model member amount missing
--     order      names of live rows with something available, in burn-down order: " a b c "
--     ends       names of live rows that have an end, the earliest first
--     rows       names of all rows kept, the oldest first
--     b:<row>    kind granted available held spent expired voided ends_ms created_ms status actions models
--     r:<row>    what was restored to it from periods that are over
--     h:<hold>   an open hold: the record below
--     m:<member> limit used cap_period; m:* the limit of each member that has none of its own
--     x:<ref>    the fingerprint of an event of the subscription
--   deadlines  creditgate:{tag}:deadlines               zset    <account_id>/<hold_id> by deadline_ms
--   ledger     creditgate:{tag}:ledger                  stream  an entry per change; `prev` is the one before it
--   closed     creditgate:{tag}:closed                  hash    <account_id>/<hold_id> -> a hold that ended
--   forgotten  creditgate:{tag}:forgotten               string  the last ledger entry that `forget` has seen
--
-- A hold's record, words with a space between:
--   state amount charged refunded overdrawn overdrawn_back deadline_ms ended_ms late
--   fingerprint first_amount authorized_ms cap_period/drawn      the period it last drew in, and what it drew there
--   ttl_ms life_ms_max overage overdraft_limit late_settle price action model quantity settings member catalog
--   slices      kind/amount/charged/returned/refunded/row      with commas between
--   operations  id/verb/fingerprint/charged/shortfall/returned/late  with commas between
-- "*" stands for nothing: no id contains it. Figures are whole numbers, written by `text`, never by tostring.
--
-- Plans and periods are worked out beside the store. When `turn_ms` has come, or an event changes the
-- subscription, a script is called again with a *turn*: lines of words, the first one
-- "of version turn_ms plan cap_period", the second the next schedule, then what is done to rows. It is applied
-- if the account's version is still `of`, in the same step as the operation that found it due. A turn of "?" says
-- that the catalog has plans: an account older than them then begins the one they begin with.
--
-- Every verb reads and decides first; only `commit` writes, and from there on nothing can fail.

local AMOUNT_MAX = 9007199254740991
local OPERATIONS_MAX = 100
local KINDS = 'FSATPRC'
local ENDED = { S = 'hold_settled', R = 'hold_refunded', E = 'hold_expired' }

local function text(n)
  return string.format('%.0f', n)
end

-- The instant by which this script lives: the store's clock, not a sidecar's, since many share one store;
-- never behind `seen_ms`, what the account has seen. `clock` is '' but for a test clock.
local function instant(clock, seen_ms)
  local now
  if clock == '' then
    local t = redis.call('TIME')
    now = t[1] * 1000 + math.floor(t[2] / 1000)
  else
    now = tonumber(clock)
  end
  return now < seen_ms and seen_ms or now
end

-- Rows ---------------------------------------------------------------------------------------------

local ROW = '^(%a) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%a) (%S+) (%S+)$'

-- The row of this name, or nil if it is not kept. Figures are under the letters that moves use.
local function row_of(a, name)
  local row = a.row[name]
  if row == nil then
    local record = redis.call('HGET', a.key, 'b:' .. name)
    if not record then
      return nil
    end
    local kind, g, av, h, s, e, v, ends, created, status, actions, models = string.match(record, ROW)
    row = {
      name = name, kind = kind, g = tonumber(g), a = tonumber(av), h = tonumber(h), s = tonumber(s),
      e = tonumber(e), v = tonumber(v), ends = tonumber(ends), created = tonumber(created),
      status = status, actions = actions, models = models,
    }
    a.row[name] = row
  end
  return row
end

local function row_record(row)
  return string.format('%s %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %s %s %s', row.kind, row.g, row.a,
    row.h, row.s, row.e, row.v, row.ends, row.created, row.status, row.actions, row.models)
end

local function limited(row)
  return (row.actions ~= '*' or row.models ~= '*') and 1 or 0
end

local function names(list, name)
  return list == '*' or string.find(',' .. list .. ',', ',' .. name .. ',', 1, true) ~= nil
end

local function pays(row, action, model)
  return names(row.actions, action) and names(row.models, model)
end

-- Ordered lists of names ---------------------------------------------------------------------------

local function rank(a, row)
  return string.byte(a.ranks, string.find(KINDS, row.kind, 1, true))
end

-- Burn-down: by rank, then the earlier end (never is last), then the older row, then its name.
local function drawn_before(a, x, y)
  local p, q = rank(a, x), rank(a, y)
  if p ~= q then return p < q end
  if x.ends ~= y.ends then return x.ends ~= 0 and (y.ends == 0 or x.ends < y.ends) end
  if x.created ~= y.created then return x.created < y.created end
  return x.name < y.name
end

local function ends_before(_, x, y)
  if x.ends ~= y.ends then return x.ends < y.ends end
  return x.name < y.name
end

-- Insert by halving, so that a long list costs a few looks: lo and hi are the places of spaces.
local function inserted(a, list, row, before)
  local lo, hi = 1, #list
  while lo < hi do
    local at = string.find(list, ' ', math.floor((lo + hi) / 2), true)
    if at >= hi then at = lo end
    local other = string.match(list, '^%S+', at + 1)
    if before(a, row_of(a, other), row) then
      lo = at + #other + 1
    else
      hi = at
    end
  end
  return string.sub(list, 1, lo) .. row.name .. string.sub(list, lo)
end

local function removed(list, name)
  local at, to = string.find(list, ' ' .. name .. ' ', 1, true)
  if at == nil then
    return list
  end
  return string.sub(list, 1, at) .. string.sub(list, to + 1)
end

-- The account --------------------------------------------------------------------------------------

local STATE = '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%S+) (%d+) (%d+) (%S+) (%d+) (%d) (%S+)$'

local function put(a, field, value)
  local sets = a.sets
  sets[#sets + 1] = field
  sets[#sets + 1] = value
end

local function list_of(a, field)
  local list = a[field]
  if list == nil then
    list = redis.call('HGET', a.key, field) or ' '
    a[field] = list
  end
  return list
end

local function set_list(a, field, list)
  a[field] = list
  a.relisted[field] = true
end

-- Move `n` credits between two figures of a row. Nothing else changes a row.
-- `row` may be one that is not kept any more: { name, kind, gone = true }.
local function move(a, row, from, to, n)
  if n == 0 then
    return
  end
  a.moves[#a.moves + 1] = string.format('%s%s/%.0f/%s/%s', from, to, n, row.kind, row.name)
  -- What is available in a frozen row is shown with the row, and is no part of the totals.
  local spendable = row.status ~= 'F'
  if from == 'a' and spendable then a.available = a.available - n elseif from == 'h' then a.held = a.held - n end
  if to == 'a' and spendable then a.available = a.available + n elseif to == 'h' then a.held = a.held + n end
  if row.gone then
    return
  end
  local had = row.a
  row[from] = from == 'g' and row.g + n or row[from] - n
  row[to] = row[to] + n
  a.touched[row.name] = row
  if not spendable then
    return
  end
  if had > 0 and row.a == 0 then
    set_list(a, 'order', removed(list_of(a, 'order'), row.name))
  elseif had == 0 and row.a > 0 then
    set_list(a, 'order', inserted(a, list_of(a, 'order'), row, drawn_before))
  end
end

-- Close one change: it gets the next number, the moves made since the last one, and the totals after it.
local function record(a, verb, hold, operation, debt_change, row)
  a.seq = a.seq + 1
  a.entries[#a.entries + 1] = {
    'seq', text(a.seq), 'at', text(a.now), 'verb', verb,
    'row', row and row.name or '*', 'hold', hold and hold.id or '*',
    'operation', operation ~= '' and operation or '*', 'member', hold and hold.member or '*',
    'action', hold and hold.action or '*', 'model', hold and hold.model or '*',
    'moves', #a.moves > 0 and table.concat(a.moves, ',') or '*',
    'debt', text(debt_change or 0),
    'after', string.format('%.0f %.0f %.0f', a.available, a.held, a.debt),
  }
  a.moves = {}
end

-- A row joins the account, empty.
local function add_row(a, name, kind, ends_ms, actions, models)
  local row = {
    name = name, kind = kind, g = 0, a = 0, h = 0, s = 0, e = 0, v = 0, ends = ends_ms, created = a.now,
    status = 'L', actions = actions, models = models,
  }
  a.row[name] = row
  a.touched[name] = row
  a.limited = a.limited + limited(row)
  set_list(a, 'rows', list_of(a, 'rows') .. name .. ' ')
  if ends_ms > 0 then
    set_list(a, 'ends', inserted(a, list_of(a, 'ends'), row, ends_before))
    if a.due == 0 or ends_ms < a.due then a.due = ends_ms end
  end
  return row
end

-- A row has no end to come any more.
local function without_end(a, row)
  if row.ends > 0 then
    set_list(a, 'ends', removed(list_of(a, 'ends'), row.name))
    local next_name = string.match(a.ends, '^ (%S+)')
    a.due = next_name and row_of(a, next_name).ends or 0
  end
end

-- A row ends: what is available goes to `figure`; what is held stays until it comes back.
local function end_row(a, row, figure, status)
  move(a, row, 'a', figure, row.a)
  if row.status == 'L' then
    a.limited = a.limited - limited(row)
  end
  row.status = status
  a.touched[row.name] = row
  without_end(a, row)
end

-- A live row is not to be spent, or a frozen one is again. What it holds stays where it is.
local function freeze_row(a, row)
  set_list(a, 'order', removed(list_of(a, 'order'), row.name))
  a.available = a.available - row.a
  a.limited = a.limited - limited(row)
  row.status = 'F'
  a.touched[row.name] = row
  record(a, 'freeze_bucket', nil, nil, 0, row)
end

local function thaw_row(a, row)
  row.status = 'L'
  a.available = a.available + row.a
  a.limited = a.limited + limited(row)
  if row.a > 0 then
    set_list(a, 'order', inserted(a, list_of(a, 'order'), row, drawn_before))
  end
  a.touched[row.name] = row
  record(a, 'thaw_bucket', nil, nil, 0, row)
end

-- Credits arrive in a row, as one change; a debt takes its part of them, as another.
local function arrive(a, row, n, verb)
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
local function catch_up(a)
  while a.due > 0 and a.due <= a.now do
    local row = row_of(a, string.match(list_of(a, 'ends'), '^ (%S+)'))
    end_row(a, row, 'e', 'E')
    record(a, 'end_bucket', nil, nil, 0, row)
  end
end

-- The rows of this status, and of this kind if it is said.
local function live_rows(a, kind, status)
  local rows = {}
  for name in string.gmatch(list_of(a, 'rows'), '%S+') do
    local row = row_of(a, name)
    if row.status == status and (kind == nil or row.kind == kind) then
      rows[#rows + 1] = row
    end
  end
  return rows
end

-- The changes of rows that a turn may ask for, by their word. A row that is not there any more is passed over.
-- Made only when a turn comes: a script makes its functions anew at every call.
local function turns() return {
  begin = function(a, name, kind, amount, ends, actions, models, _, _, rolled)
    if row_of(a, name) == nil then
      local n = math.min(tonumber(amount) + rolled, AMOUNT_MAX - a.available - a.held)
      arrive(a, add_row(a, name, kind, tonumber(ends), actions, models), n, 'begin_period')
    end
  end,
  more = function(a, name, amount)
    local row = row_of(a, name)
    if row and row.status == 'L' then
      arrive(a, row, math.min(tonumber(amount), AMOUNT_MAX - a.available - a.held), 'adjust')
    end
  end,
  at_most = function(a, name, amount)
    local row = row_of(a, name)
    if row and row.status == 'L' and row.a > tonumber(amount) then
      move(a, row, 'a', 'e', row.a - amount)
      record(a, 'adjust', nil, nil, 0, row)
    end
  end,
  ['end'] = function(a, name)
    local row = row_of(a, name)
    if row and (row.status == 'L' or row.status == 'F') then
      end_row(a, row, 'e', 'E')
      record(a, 'end_bucket', nil, nil, 0, row)
    end
  end,
  keep = function(a, name)
    local row = row_of(a, name)
    if row and row.status == 'L' and row.ends > 0 then
      without_end(a, row)
      row.ends = 0
      set_list(a, 'order', removed(list_of(a, 'order'), name))
      if row.a > 0 then
        set_list(a, 'order', inserted(a, a.order, row, drawn_before))
      end
      a.touched[name] = row
      record(a, 'adjust', nil, nil, 0, row)
    end
  end,
  freeze = function(a, name)
    local row = row_of(a, name)
    if row and row.status == 'L' then
      freeze_row(a, row)
    end
  end,
  lapse = function(a, kind, how)
    for _, row in ipairs(live_rows(a, kind, 'L')) do
      if how == 'freeze' then
        freeze_row(a, row)
      else
        end_row(a, row, 'e', 'E')
        record(a, 'end_bucket', nil, nil, 0, row)
      end
    end
  end,
  thaw = function(a)
    for _, row in ipairs(live_rows(a, nil, 'F')) do
      -- A row for which the totals have no room waits for another thaw.
      if row.a <= AMOUNT_MAX - a.available - a.held then
        thaw_row(a, row)
      end
    end
  end,
} end

-- Apply a turn that was worked out from the account's version.
local function apply_turn(a, turn)
  local TURNS = turns()
  local version, turn_ms, plan, cap, schedule, changes =
    string.match(turn, '^%d+ (%d+) (%d+) (%S+) (%d+)\n([^\n]*)\n?(.*)$')
  local work = {}
  for change in string.gmatch(changes, '[^\n]+') do
    local words = {}
    for word in string.gmatch(change, '%S+') do
      words[#words + 1] = word
    end
    if words[1] == 'keep' then
      -- The plan was left before the row's end came, though it has come by now.
      TURNS.keep(a, words[2])
    elseif words[1] == 'begin' then
      -- What rolls over is looked up before its row ends.
      local row = words[8] ~= '*' and row_of(a, words[8])
      words[10] = row and row.status == 'L' and math.min(row.a, tonumber(words[9])) or 0
    end
    work[#work + 1] = words
  end
  catch_up(a)
  for _, words in ipairs(work) do
    TURNS[words[1]](a, unpack(words, 2))
  end
  a.version, a.turn, a.plan, a.cap = version, tonumber(turn_ms), plan, cap
  a.schedule = schedule
  put(a, 'schedule', schedule)
end

-- Whether a turn was worked out from the account as it is.
local function fits(a, turn)
  return string.match(turn, '^(%d+) ') == a.version
end

-- The schedule as it will stand after this script.
local function schedule_of(a)
  return a.schedule or redis.call('HGET', a.key, 'schedule') or ''
end

local function turn_due(a)
  return { 'turn_due', text(a.now), schedule_of(a) }
end

local function new_account(key, deadlines, ledger, closed, id, clock)
  local now = instant(clock, 0)
  return {
    key = key, deadlines = deadlines, ledger = ledger, closed = closed, id = id,
    seq = 0, available = 0, held = 0, debt = 0, open = 0, due = 0, limited = 0, ranks = '*', last = '0-0',
    turn = 0, version = '0', plan = '*', cap = '0', frozen = '0',
    order = ' ', row = {}, touched = {}, relisted = {}, moves = {}, entries = {}, sets = {},
    now = now, seen = now,
  }
end

-- The account as it stands now, with all that is due done; or nil and the reply that says why not.
-- `ranks` is the catalog's order of kinds, '' where nothing is drawn. `extra` is a field to fetch as well.
local function open_account(key, deadlines, ledger, closed, id, clock, ranks, turn, extra)
  local got = redis.call('HMGET', key, 'state', 'order', extra)
  if not got[1] then
    return nil, { 'account_not_found' }
  end
  local seq, available, held, debt, open, seen, due, limits, ranked, turn_ms, version, plan, cap, frozen, last =
    string.match(got[1], STATE)
  local a = {
    key = key, deadlines = deadlines, ledger = ledger, closed = closed, id = id,
    seq = tonumber(seq), available = tonumber(available), held = tonumber(held), debt = tonumber(debt),
    open = tonumber(open), due = tonumber(due), limited = tonumber(limits), ranks = ranked, last = last,
    turn = tonumber(turn_ms), version = version, plan = plan, cap = cap, frozen = frozen,
    order = got[2] or ' ', row = {}, touched = {}, relisted = {}, moves = {}, entries = {}, sets = {},
    found = got[3],
  }
  a.seen = tonumber(seen)
  a.now = instant(clock, a.seen)
  if ranks ~= '' and ranks ~= ranked then
    -- The catalog ranks kinds in another way now; this account is sorted anew, once.
    a.ranks = ranks
    local order = ' '
    for name in string.gmatch(a.order, '%S+') do
      order = inserted(a, order, row_of(a, name), drawn_before)
    end
    set_list(a, 'order', order)
  end
  -- The first turn of all comes when the catalog has plans: no moment is noted for it.
  local first = version == '0' and turn ~= ''
  if not first and (a.turn == 0 or a.now < a.turn) then
    catch_up(a)
  elseif fits(a, turn) then
    apply_turn(a, turn)
  else
    return nil, turn_due(a)
  end
  return a
end

-- Holds --------------------------------------------------------------------------------------------

local HOLD = '^(%a) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d) (%S+) (%d+) (%d+) (%d+)/(%d+) '
  .. '((%d+) (%d+) (%S+) (%d+) (%S+) (%S+) (%S+) (%S+) %S+ %S+ (%S+) %S+) (%S+) (%S+)$'

-- The hold of this id, open or ended, or nil.
local function find_hold(a, id)
  local found, was_open = a.found, true
  if not found then
    found, was_open = redis.call('HGET', a.closed, a.id .. '/' .. id), false
    if not found then
      return nil
    end
  end
  local state, amount, charged, refunded, overdrawn, overdrawn_back, deadline, ended, late, fingerprint, first,
    authorized, cap, drawn, terms, ttl, life, overage, limit, late_settle, price, action, model, member, slices,
    operations = string.match(found, HOLD)
  return {
    id = id, record = found, was_open = was_open, listed = tonumber(deadline), state = state,
    amount = tonumber(amount), charged = tonumber(charged), refunded = tonumber(refunded),
    overdrawn = tonumber(overdrawn), overdrawn_back = tonumber(overdrawn_back),
    deadline = tonumber(deadline), ended = tonumber(ended), late = late, fingerprint = fingerprint,
    first = tonumber(first), authorized = tonumber(authorized), cap = cap, drawn = tonumber(drawn), terms = terms,
    ttl = tonumber(ttl), life = tonumber(life), overage = overage, limit = tonumber(limit), late_settle = late_settle,
    price = price, action = action, model = model, member = member, slice_text = slices, operations = operations,
  }
end

local SLICE = '^(%a)/(%d+)/(%d+)/(%d+)/(%d+)/(%S+)$'

local function slices_of(hold)
  if hold.slices == nil then
    hold.slices = {}
    if hold.slice_text ~= '*' then
      for part in string.gmatch(hold.slice_text, '[^,]+') do
        local kind, amount, charged, returned, refunded, name = string.match(part, SLICE)
        hold.slices[#hold.slices + 1] = {
          kind = kind, amount = tonumber(amount), charged = tonumber(charged), returned = tonumber(returned),
          refunded = tonumber(refunded), name = name,
        }
      end
    end
  end
  return hold.slices
end

-- What the hold still has set aside.
local function held_in(hold)
  local held = 0
  for _, slice in ipairs(slices_of(hold)) do
    held = held + slice.amount - slice.charged - slice.returned
  end
  return held
end

-- Note the hold to be written, where its state says.
local function save_hold(a, hold)
  local slices = hold.slice_text
  if hold.slices ~= nil then
    local parts = {}
    for i, slice in ipairs(hold.slices) do
      parts[i] = string.format('%s/%.0f/%.0f/%.0f/%.0f/%s', slice.kind, slice.amount, slice.charged,
        slice.returned, slice.refunded, slice.name)
    end
    slices = #parts > 0 and table.concat(parts, ',') or '*'
  end
  hold.record = string.format('%s %.0f %.0f %.0f %.0f %.0f %.0f %.0f %s %s %.0f %.0f %s/%.0f %s %s %s', hold.state,
    hold.amount, hold.charged, hold.refunded, hold.overdrawn, hold.overdrawn_back, hold.deadline, hold.ended, hold.late,
    hold.fingerprint, hold.first, hold.authorized, hold.cap, hold.drawn, hold.terms, slices, hold.operations)
  a.saved = hold
end

-- The hold has ended: it is not open any more, and leaves the deadlines.
local function end_hold(a, hold, state)
  if hold.state == 'O' then
    a.open = a.open - 1
  end
  hold.state = state
  hold.ended = a.now
end

-- The recorded operation of this id, or nil. One without an id is known by its verb and its content.
local function find_operation(hold, id, verb, fingerprint)
  local operations = ',' .. hold.operations .. ','
  local wanted = id == '' and ',*/' .. verb .. '/' .. fingerprint .. '/' or ',' .. id .. '/'
  local at = string.find(operations, wanted, 1, true)
  if at == nil or hold.operations == '*' then
    return nil
  end
  local found, charged, shortfall, returned, late =
    string.match(operations, '^,[^/]+/%a/(%x+)/(%d+)/(%d+)/(%d+)/(%d)', at)
  return { fingerprint = found, charged = charged, shortfall = shortfall, returned = returned, late = late }
end

local function is_full(hold)
  local _, commas = string.gsub(hold.operations, ',', '')
  return hold.operations ~= '*' and commas + 1 >= OPERATIONS_MAX
end

local function add_operation(hold, id, verb, fingerprint, charged, shortfall, returned, late)
  local operation = string.format('%s/%s/%s/%.0f/%.0f/%.0f/%s', id == '' and '*' or id, verb, fingerprint, charged,
    shortfall, returned, late)
  hold.operations = hold.operations == '*' and operation or hold.operations .. ',' .. operation
end

-- The amount for a quantity at a pinned price, or nil if it passes the largest amount.
-- The division is exact: the rest is taken off first.
local function rated(price, quantity)
  if quantity == 0 then
    return 0
  end
  local flat, numerator, denominator, minimum, rounding = string.match(price, '^(%d+)/(%d+)/(%d+)/(%d+)/(%a)/')
  local product = numerator * quantity
  if product > AMOUNT_MAX then
    return nil
  end
  local rest = math.fmod(product, denominator)
  local whole = (product - rest) / denominator
  if rest > 0 and (rounding == 'u' or (rounding == 'h' and 2 * rest >= tonumber(denominator))) then
    whole = whole + 1
  end
  local amount = math.max(tonumber(minimum), flat + whole)
  return amount <= AMOUNT_MAX and amount or nil
end

-- Credits out and back -----------------------------------------------------------------------------

-- Which rows would give `amount` for this job: a list of { row, n }, and how much they give together.
local function find_credits(a, amount, action, model)
  local picks, got = {}, 0
  if a.limited == 0 and a.available < amount then
    -- Every row may pay, so the total says it without a look at any of them.
    return picks, a.available
  end
  for name in string.gmatch(a.order, '%S+') do
    if got >= amount then
      break
    end
    local row = row_of(a, name)
    if pays(row, action, model) then
      local n = math.min(row.a, amount - got)
      picks[#picks + 1] = { row = row, n = n }
      got = got + n
    end
  end
  return picks, got
end

-- What a member may draw in a cap period (nil: any amount), and has drawn in this one.
local function member_share(a, member)
  if a.share == nil then
    local got = redis.call('HMGET', a.key, 'm:' .. member, 'm:*')
    local own, used, period = string.match(got[1] or '* 0 0', '^(%S+) (%d+) (%d+)$')
    a.share = {
      own = own, limit = tonumber(own) or tonumber(got[2] or ''),
      used = period == a.cap and tonumber(used) or 0,
    }
  end
  return a.share.limit, a.share.used
end

-- Count what a hold draws now, or gives back (below 0) of what it drew in this cap period, against its member.
local function count_member(a, hold, n)
  if hold.cap ~= a.cap then
    if n <= 0 then
      return
    end
    hold.cap, hold.drawn = a.cap, 0
  end
  n = math.max(n, -hold.drawn)
  hold.drawn = hold.drawn + n
  if hold.member ~= '*' and n ~= 0 then
    local _, used = member_share(a, hold.member)
    a.share.used = math.max(0, used + n)
    a.share.member = hold.member
  end
end

-- Take what was found: into slices of the hold, set aside ('h') or charged at once ('s').
local function take(a, hold, picks, figure)
  local slices = slices_of(hold)
  for _, pick in ipairs(picks) do
    if pick.n > 0 then
      move(a, pick.row, 'a', figure, pick.n)
      slices[#slices + 1] = {
        kind = pick.row.kind, amount = pick.n, charged = figure == 's' and pick.n or 0, returned = 0, refunded = 0,
        name = pick.row.name,
      }
    end
  end
end

-- Charge `n` of what the hold has set aside, in the order it was drawn.
local function charge_held(a, hold, n)
  for _, slice in ipairs(slices_of(hold)) do
    local part = math.min(n, slice.amount - slice.charged - slice.returned)
    if part > 0 then
      move(a, row_of(a, slice.name), 'h', 's', part)
      slice.charged = slice.charged + part
      n = n - part
    end
  end
end

-- Put credits of a period that is over into the newest row of its bucket that lives: in all as many as were spent
-- there, so that what can be spent never passes the allowance.
local function restore(a, name, n)
  local bucket, live = string.match(name, '^([^#]+)#'), nil
  for other in string.gmatch(bucket and list_of(a, 'rows') or '', '%S+') do
    local row = string.match(other, '^([^#]+)#') == bucket and row_of(a, other)
    if row and row.status == 'L' then
      live = row
    end
  end
  if live == nil then
    return
  end
  local restored = live.restored or tonumber(redis.call('HGET', a.key, 'r:' .. live.name) or 0)
  local part = math.max(0, math.min(n, live.s - restored))
  live.restored = restored + part
  if part > 0 then
    move(a, live, 'g', 'a', part)
    put(a, 'r:' .. live.name, text(live.restored))
  end
end

-- Return `n` credits that stand in `from` ('h' or 's') to where they came from, the last drawn first.
-- Returns how much of it a compensation must make good, because its row has ended.
local function give_back(a, hold, from, n, policy)
  local owed = 0
  local slices = slices_of(hold)
  for i = #slices, 1, -1 do
    local slice = slices[i]
    local part
    if from == 'h' then
      part = math.min(n, slice.amount - slice.charged - slice.returned)
      slice.returned = slice.returned + part
    else
      part = math.min(n, slice.charged - slice.refunded)
      slice.refunded = slice.refunded + part
    end
    n = n - part
    local row = row_of(a, slice.name) or { name = slice.name, kind = slice.kind, gone = true, status = 'E' }
    if row.status == 'L' or row.status == 'F' then
      move(a, row, from, 'a', part)
    elseif row.status == 'V' then
      move(a, row, from, 'v', part)
    else
      move(a, row, from, 'e', part)
      if policy == 'compensate' then
        owed = owed + part
      elseif policy == 'restore_capped' then
        restore(a, slice.name, part)
      end
    end
  end
  return owed
end

-- Make good what could not go back: a row of its own, named after the change that makes it.
local function compensate(a, n, life_ms)
  if n > 0 then
    local row = add_row(a, 'compensation/' .. text(a.seq + 1), 'C', a.now + life_ms, '*', '*')
    move(a, row, 'g', 'a', n)
  end
end

-- If the deadline has passed, the hold goes back now, before anything else is decided about it.
local function expire_if_due(a, hold, policy, life_ms)
  if hold.state ~= 'O' or a.now < hold.deadline then
    return nil
  end
  local held = held_in(hold)
  compensate(a, give_back(a, hold, 'h', held, policy), life_ms)
  count_member(a, hold, -held)
  end_hold(a, hold, 'E')
  record(a, 'expire', hold)
  save_hold(a, hold)
  return held
end

-- Remember a denial for whoever asks why; the same one again writes nothing.
local function note_denial(a, reason, wanted, missing)
  local denied = string.format('%s %s %s %s %s %s %s', reason, wanted.id, wanted.action, wanted.model, wanted.member,
    wanted.amount == '' and '0' or wanted.amount, missing)
  local noted = redis.call('HGET', a.key, 'denied')
  if not noted or string.match(noted, '^%d+ (.*)$') ~= denied then
    put(a, 'denied', text(a.seq) .. ' ' .. denied)
  end
end

-- Which limit beside credits denies the job, or nil: `draw` is what it would draw, `opens` whether it opens a hold.
local function limit_of(a, wanted, draw, opens)
  if a.frozen == '1' then
    return 'account_frozen', '0'
  end
  local open_max = 0
  if wanted.gate ~= '*' then
    local _, to = string.find(wanted.gate, ',' .. a.plan .. '/', 1, true)
    if to == nil then
      return 'plan_required', '0'
    end
    open_max = tonumber(string.match(wanted.gate, '^%d+', to + 1))
  end
  if wanted.member ~= '*' then
    local limit, used = member_share(a, wanted.member)
    if limit and used + draw > limit then
      return 'member_limit', text(used + draw - limit)
    end
  end
  if opens and open_max > 0 and a.open >= open_max then
    return 'concurrency_limit', '0'
  end
  return nil
end

-- The ladder that authorize and charge share, from replay to approval, and its reply. `figure` says whether the
-- credits are set aside ('h') or charged at once ('s').
local function place(a, wanted, figure)
  local charged = figure == 's'
  local earlier = find_hold(a, wanted.id)
  if earlier ~= nil then
    expire_if_due(a, earlier, wanted.on_failed, wanted.compensation_ms)
    if earlier.fingerprint ~= wanted.fingerprint then
      return { 'id_reused' }
    end
    return { 'approved', text(earlier.first), earlier.record, '1', '0', '', '' }
  end
  local price = tonumber(wanted.amount)
  local reason, missing = nil, '0'
  local picks, got
  if price == nil then
    reason = 'unpriced_action'
  elseif wanted.amount_max ~= '' and price > tonumber(wanted.amount_max) then
    reason = 'price_changed'
  else
    reason, missing = limit_of(a, wanted, price, not charged)
  end
  if reason == nil then
    picks, got = find_credits(a, price, wanted.action, wanted.model)
    if got < price then
      reason, missing = 'insufficient_credits', text(price - got)
    end
  end
  if reason ~= nil then
    note_denial(a, reason, wanted, missing)
    return { reason, price and wanted.amount or '0', '', '0', missing, a.plan, schedule_of(a) }
  end
  local hold = {
    id = wanted.id, state = charged and 'S' or 'O', amount = price, charged = charged and price or 0, refunded = 0,
    overdrawn = 0, overdrawn_back = 0, deadline = charged and a.now or a.now + wanted.ttl_ms,
    ended = charged and a.now or 0, late = '0', fingerprint = wanted.fingerprint, first = price, authorized = a.now,
    cap = a.cap, drawn = 0, terms = wanted.terms, slices = {}, operations = '*', action = wanted.action,
    model = wanted.model, member = wanted.member,
  }
  take(a, hold, picks, figure)
  count_member(a, hold, price)
  if not charged then
    a.open = a.open + 1
  end
  record(a, charged and 'charge' or 'authorize', hold)
  save_hold(a, hold)
  return { 'approved', wanted.amount, hold.record, '0', '0', '', '' }
end

-- The end of every script --------------------------------------------------------------------------

-- Write. From here on it must succeed.
local function commit(a)
  if #a.entries == 0 and a.saved == nil and next(a.relisted) == nil and next(a.touched) == nil and #a.sets == 0
    and not a.changed then
    return
  end
  for _, entry in ipairs(a.entries) do
    a.last = redis.call('XADD', a.ledger, '*', 'account', a.id, 'prev', a.last, unpack(entry))
  end
  for name, row in pairs(a.touched) do
    put(a, 'b:' .. name, row_record(row))
  end
  for field in pairs(a.relisted) do
    put(a, field, a[field])
  end
  local hold = a.saved
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
        redis.call('HDEL', a.key, 'h:' .. hold.id)
        redis.call('ZREM', a.deadlines, member)
      end
    end
  end
  local share = a.share
  if share ~= nil and share.member ~= nil then
    put(a, 'm:' .. share.member, string.format('%s %.0f %s', share.own, share.used, a.cap))
  end
  put(a, 'state', string.format('%.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %s %.0f %s %s %s %s %s', a.seq, a.available,
    a.held, a.debt, a.open, #a.entries > 0 and a.now or a.seen, a.due, a.limited, a.ranks, a.turn, a.version, a.plan,
    a.cap, a.frozen, a.last))
  -- In pieces: `unpack` takes some thousands of values at most.
  for first = 1, #a.sets, 1000 do
    redis.call('HSET', a.key, unpack(a.sets, first, math.min(first + 999, #a.sets)))
  end
end

-- Write what was decided, and say what it came to: the outcome, the totals, then what the verb adds.
local function answer(a, outcome, ...)
  commit(a)
  return { outcome, text(a.seq), text(a.available), text(a.held), text(a.debt), text(a.now), ... }
end
