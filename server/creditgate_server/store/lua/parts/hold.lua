-- Holds as they are kept, with their slices and operations.
--   needs    account

local HOLD = '^(%a) (%d+) (%d+) (%d+) (%d+) (%d+) (%d) (%d+) (%d+) (%d+) (%d+) (%d+)/(%d+) (%S+) (%S+) (%S+) '
  .. '((%S+) (%S+) (%S+) %S+ %S+ %S+ (%S+))(.*)$'

-- The hold of this id, open or ended, or nil.
local function find_hold(a, id)
  local found, was_open = a.found, true
  if not found then
    found, was_open = redis.call('HGET', a.closed, a.id .. '/' .. id), false
    if not found then
      return nil
    end
  end
  local state, amount, charged, refunded, overdrawn, overdrawn_back, late, authorized, lasts, ended, first, cap, drawn,
    fingerprint, slices, operations, job, member, action, model, price, pinned = string.match(found, HOLD)
  local deadline = authorized + lasts
  return {
    id = id, record = found, was_open = was_open, listed = deadline, state = state,
    amount = amount + 0, charged = charged + 0, refunded = refunded + 0,
    overdrawn = overdrawn + 0, overdrawn_back = overdrawn_back + 0, late = late,
    authorized = authorized + 0, deadline = deadline, ended = ended + 0, first = first + 0, cap = cap,
    drawn = drawn + 0, fingerprint = fingerprint, slice_text = slices, operations = operations, job = job,
    member = member, action = action, model = model, price = price, pinned = pinned,
  }
end

-- The slices, in the order in which they were drawn.
local function slices_of(hold)
  local slices = hold.slices
  if slices == nil then
    slices = {}
    for kind, amount, charged, returned, refunded, name in
      string.gmatch(hold.slice_text, '(%a)/(%d+)/(%d+)/(%d+)/(%d+)/([^,]+)')
    do
      slices[#slices + 1] = {
        kind = kind, amount = amount + 0, charged = charged + 0, returned = returned + 0, refunded = refunded + 0,
        name = name,
      }
    end
    hold.slices = slices
  end
  return slices
end

-- Note the hold to be written, where its state says.
local function save_hold(a, hold)
  local slices = hold.slice_text
  if hold.slices then
    slices = ''
    for i, slice in ipairs(hold.slices) do
      slices = slices .. (i == 1 and '' or ',') .. string.format('%s/%d/%d/%d/%d/%s', slice.kind, slice.amount,
        slice.charged, slice.returned, slice.refunded, slice.name)
    end
    if slices == '' then
      slices = '*'
    end
  end
  hold.record = string.format('%s %d %d %d %d %d %s %d %d %d %d %s/%d %s %s %s %s%s', hold.state, hold.amount,
    hold.charged, hold.refunded, hold.overdrawn, hold.overdrawn_back, hold.late, hold.authorized,
    hold.deadline - hold.authorized, hold.ended, hold.first, hold.cap, hold.drawn, hold.fingerprint, slices,
    hold.operations, hold.job, hold.pinned)
  a.saved = hold
end
