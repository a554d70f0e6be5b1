-- Rows as they are kept.
--   needs    base

local ROW = '^(%a) (%a) (%d+) (%d+) (%d+) (%d+) (.+)$'

-- The row of this name, or nil if it is not kept. Figures are under the letters that moves use; what stands
-- behind those of every day is read by `whole`.
local function row_of(a, name)
  local row = a.row[name]
  if row == nil then
    local record = redis.call('HGET', a.key, 'b:' .. name)
    if not record then
      return nil
    end
    local kind, status, g, av, h, s, more = string.match(record, ROW)
    row = { name = name, kind = kind, status = status, g = g + 0, a = av + 0, h = h + 0, s = s + 0, more = more }
    a.row[name] = row
  end
  return row
end

local function whole(row)
  if row.more then
    local e, v, ends, created, actions, models = string.match(row.more, '^(%d+) (%d+) (%d+) (%d+) (%S+) (%S+)$')
    row.e, row.v, row.ends, row.created, row.actions, row.models = e + 0, v + 0, ends + 0, created + 0, actions, models
    row.more = nil
  end
  return row
end

local function row_record(row)
  local more = row.more
    or string.format('%d %d %d %d %s %s', row.e, row.v, row.ends, row.created, row.actions, row.models)
  return string.format('%s %s %d %d %d %d %s', row.kind, row.status, row.g, row.a, row.h, row.s, more)
end
