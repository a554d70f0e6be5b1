-- Put in front of every script. What all verbs share: the keys, the records, and the ways in which credits move.
--
-- The keys. All of one partition carry its hash tag, so that a script never leaves its slot.
--   account    creditgate:{tag}:account:<account_id>    hash
--     state      seq available held debt open_holds clock_ms due_ms limited ranks last_entry
--     profile    zone created_ms
--     order      names of live rows with something available, in burn-down order: " a b c "
--     ends       names of live rows that have an end, the earliest first
--     rows       names of all rows kept, the oldest first
--     b:<row>    kind granted available held spent expired voided ends_ms created_ms status actions models
--     h:<hold>   an open hold: the record below
--   deadlines  creditgate:{tag}:deadlines               zset    <account_id>/<hold_id> by deadline_ms
--   ledger     creditgate:{tag}:ledger                  stream  an entry per change; `prev` is the one before it
--   closed     creditgate:{tag}:closed                  hash    <account_id>/<hold_id> -> a hold that ended
--   forgotten  creditgate:{tag}:forgotten               string  the last ledger entry that `forget` has seen
--
-- A hold's record, words with a space between:
--   state amount charged refunded overdrawn overdrawn_back deadline_ms ended_ms late
--   fingerprint first_amount authorized_ms
--   ttl_ms life_ms_max overage overdraft_limit late_settle price action model quantity settings member catalog
--   slices      kind/amount/charged/returned/refunded/row      with commas between
--   operations  id/verb/fingerprint/charged/shortfall/returned/late  with commas between
-- "*" stands for nothing: no id contains it. Figures are whole numbers, written by `text`, never by tostring.
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

local STATE = '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%S+) (%S+)$'

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
  if from == 'a' then a.available = a.available - n elseif from == 'h' then a.held = a.held - n end
  if to == 'a' then a.available = a.available + n elseif to == 'h' then a.held = a.held + n end
  if row.gone then
    return
  end
  local had = row.a
  row[from] = from == 'g' and row.g + n or row[from] - n
  row[to] = row[to] + n
  a.touched[row.name] = row
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
  a.limited = a.limited + limited(row)
  set_list(a, 'rows', list_of(a, 'rows') .. name .. ' ')
  if ends_ms > 0 then
    set_list(a, 'ends', inserted(a, list_of(a, 'ends'), row, ends_before))
    if a.due == 0 or ends_ms < a.due then a.due = ends_ms end
  end
  return row
end

-- A live row ends: what is available goes to `figure`; what is held stays until it comes back.
local function end_row(a, row, figure, status)
  move(a, row, 'a', figure, row.a)
  row.status = status
  a.touched[row.name] = row
  a.limited = a.limited - limited(row)
  if row.ends > 0 then
    set_list(a, 'ends', removed(list_of(a, 'ends'), row.name))
    local next_name = string.match(a.ends, '^ (%S+)')
    a.due = next_name and row_of(a, next_name).ends or 0
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

local function new_account(key, deadlines, ledger, closed, id, clock)
  local now = instant(clock, 0)
  return {
    key = key, deadlines = deadlines, ledger = ledger, closed = closed, id = id,
    seq = 0, available = 0, held = 0, debt = 0, open = 0, due = 0, limited = 0, ranks = '*', last = '0-0',
    order = ' ', row = {}, touched = {}, relisted = {}, moves = {}, entries = {}, sets = {},
    now = now, seen = now,
  }
end

-- The account as it stands now, or nil. `ranks` is the catalog's order of kinds, '' where nothing is drawn.
local function open_account(key, deadlines, ledger, closed, id, clock, ranks, hold_id)
  local got = redis.call('HMGET', key, 'state', 'order', hold_id and 'h:' .. hold_id or 'profile')
  if not got[1] then
    return nil
  end
  local seq, available, held, debt, open, seen, due, limits, ranked, last = string.match(got[1], STATE)
  local a = {
    key = key, deadlines = deadlines, ledger = ledger, closed = closed, id = id,
    seq = tonumber(seq), available = tonumber(available), held = tonumber(held), debt = tonumber(debt),
    open = tonumber(open), due = tonumber(due), limited = tonumber(limits), ranks = ranked, last = last,
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
  catch_up(a)
  return a
end

-- Holds --------------------------------------------------------------------------------------------

local HOLD = '^(%a) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d) (%S+) (%d+) (%d+) '
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
    authorized, terms, ttl, life, overage, limit, late_settle, price, action, model, member, slices, operations =
    string.match(found, HOLD)
  return {
    id = id, record = found, was_open = was_open, listed = tonumber(deadline), state = state,
    amount = tonumber(amount), charged = tonumber(charged), refunded = tonumber(refunded),
    overdrawn = tonumber(overdrawn), overdrawn_back = tonumber(overdrawn_back),
    deadline = tonumber(deadline), ended = tonumber(ended), late = late, fingerprint = fingerprint,
    first = tonumber(first), authorized = tonumber(authorized), terms = terms, ttl = tonumber(ttl),
    life = tonumber(life), overage = overage, limit = tonumber(limit), late_settle = late_settle, price = price,
    action = action, model = model, member = member, slice_text = slices, operations = operations,
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
  hold.record = string.format('%s %.0f %.0f %.0f %.0f %.0f %.0f %.0f %s %s %.0f %.0f %s %s %s', hold.state, hold.amount,
    hold.charged, hold.refunded, hold.overdrawn, hold.overdrawn_back, hold.deadline, hold.ended, hold.late,
    hold.fingerprint, hold.first, hold.authorized, hold.terms, slices, hold.operations)
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
    if row.status == 'L' then
      move(a, row, from, 'a', part)
    elseif row.status == 'V' then
      move(a, row, from, 'v', part)
    else
      move(a, row, from, 'e', part)
      if policy == 'compensate' then
        owed = owed + part
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
  end_hold(a, hold, 'E')
  record(a, 'expire', hold)
  save_hold(a, hold)
  return held
end

-- The ladder that authorize and charge share, from replay to approval. Returns a reply, or nil, the hold's credits
-- and its beginnings: `figure` says whether they are set aside ('h') or charged at once ('s').
local function place(a, wanted, figure)
  local earlier = find_hold(a, wanted.id)
  if earlier ~= nil then
    expire_if_due(a, earlier, wanted.on_failed, wanted.compensation_ms)
    if earlier.fingerprint ~= wanted.fingerprint then
      return { 'id_reused' }
    end
    return { 'approved', text(earlier.first), earlier.record, '1', '0' }
  end
  if wanted.amount == '' then
    return { 'unpriced_action', '0', '', '0', '0' }
  end
  local price = tonumber(wanted.amount)
  if wanted.amount_max ~= '' and price > tonumber(wanted.amount_max) then
    return { 'price_changed', wanted.amount, '', '0', '0' }
  end
  local picks, got = find_credits(a, price, wanted.action, wanted.model)
  if got < price then
    return { 'insufficient_credits', wanted.amount, '', '0', text(price - got) }
  end
  local charged = figure == 's'
  local hold = {
    id = wanted.id, state = charged and 'S' or 'O', amount = price, charged = charged and price or 0, refunded = 0,
    overdrawn = 0, overdrawn_back = 0, deadline = charged and a.now or a.now + wanted.ttl_ms,
    ended = charged and a.now or 0, late = '0', fingerprint = wanted.fingerprint, first = price, authorized = a.now,
    terms = wanted.terms, slices = {}, operations = '*', action = wanted.action, model = wanted.model,
    member = wanted.member,
  }
  take(a, hold, picks, figure)
  if not charged then
    a.open = a.open + 1
  end
  record(a, charged and 'charge' or 'authorize', hold)
  save_hold(a, hold)
  return { 'approved', wanted.amount, hold.record, '0', '0' }
end

-- The end of every script --------------------------------------------------------------------------

-- Write. From here on it must succeed.
local function commit(a)
  if #a.entries == 0 and a.saved == nil and next(a.relisted) == nil and next(a.touched) == nil and #a.sets == 0 then
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
  put(a, 'state', string.format('%.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %s %s', a.seq, a.available, a.held, a.debt,
    a.open, #a.entries > 0 and a.now or a.seen, a.due, a.limited, a.ranks, a.last))
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
