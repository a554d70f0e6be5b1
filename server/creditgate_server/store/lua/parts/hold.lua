-- Holds as they are kept, with their slices and operations.
--   needs    account

-- The hold of this id, open or ended, or nil.
local function find_hold(a, id)
  local found, was_open = a.found, true
  if not found then
    found, was_open = redis.call('HGET', a.closed, closed_field(a.id, id)), false
    if not found then
      return nil
    end
  end
  local state, amount, charged, authorized, lasts, ended, rare, fingerprint, slices, operations, job, member, action,
    model, price, pinned = string.match(found, '^(.) ([^ ]+) ([^ ]+) ([^ ]+) ([^ ]+) ([^ ]+) ([^ ]+) ([^ ]+) ([^ ]+) '
      .. '([^ ]+) (([^ ]+) ([^ ]+) ([^ ]+) [^ ]+ [^ ]+ [^ ]+ ([^ ]+))(.*)$')
  local deadline = authorized + lasts
  local refunded, overdrawn, overdrawn_back, late, first, cap, drawn = 0, 0, 0, '0', amount, '0', 0
  if rare ~= '*' then
    refunded, overdrawn, overdrawn_back, late, first, cap, drawn =
      string.match(rare, '^([^/]+)/([^/]+)/([^/]+)/([^/]+)/([^/]+)/([^/]+)/([^/]+)$')
  end
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
      string.gmatch(hold.slice_text, '([^/,])/([^/]+)/([^/]*)/([^/]*)/([^/]*)/([^,]+)')
    do
      slices[#slices + 1] = {
        kind = kind, amount = amount + 0, charged = tonumber(charged) or 0, returned = tonumber(returned) or 0,
        refunded = tonumber(refunded) or 0, name = name,
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
      slices = slices .. (i == 1 and '' or ',') .. slice.kind .. '/' .. text(slice.amount) .. '/'
        .. (slice.charged == 0 and '' or text(slice.charged)) .. '/'
        .. (slice.returned == 0 and '' or text(slice.returned)) .. '/'
        .. (slice.refunded == 0 and '' or text(slice.refunded)) .. '/' .. slice.name
    end
    if slices == '' then
      slices = '*'
    end
  end
  local rare = '*'
  if hold.refunded > 0 or hold.overdrawn > 0 or hold.late ~= '0' or hold.first ~= hold.amount or hold.member ~= '*' then
    rare = string.format('%d/%d/%d/%s/%d/%s/%d', hold.refunded, hold.overdrawn, hold.overdrawn_back, hold.late,
      hold.first, hold.cap, hold.drawn)
  end
  hold.record = hold.state
    .. string.format(' %d %d %d %d %d ', hold.amount, hold.charged, hold.authorized, hold.deadline - hold.authorized,
      hold.ended)
    .. rare .. ' ' .. hold.fingerprint .. ' ' .. slices .. ' ' .. hold.operations .. ' ' .. hold.job .. hold.pinned
  a.saved = hold
end
