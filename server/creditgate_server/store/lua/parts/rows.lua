-- Rows as they are kept.
--   needs    base

-- The row of this name, or nil if it is not kept. Figures are under the letters that moves use; what stands
-- behind those of every day is read by `whole`.
local function row_of(a, name)
  local row = a.row[name]
  if row == nil then
    local record = redis.call('HGET', a.key, 'b:' .. name)
    if not record then
      return nil
    end
    local kind, status, av, h, s, more = string.match(record, '^(.)(.) ([^ ]+) ([^ ]+) ([^ ]+) (.+)$')
    row = { name = name, kind = kind, status = status, a = av + 0, h = h + 0, s = s + 0, more = more }
    a.row[name] = row
  end
  return row
end

local function whole(row)
  if row.more then
    local ends, created, rest = string.match(row.more, '^([^ ]+) ([^ ]+)(.*)$')
    local e, v, actions, models = string.match(rest, '^ ([^ ]+) ([^ ]+) ([^ ]+) ([^ ]+)$')
    row.ends, row.created = tonumber(ends, 36), tonumber(created, 36)
    row.e, row.v, row.actions, row.models = (e or 0) + 0, (v or 0) + 0, actions or '*', models or '*'
    row.more = nil
  end
  return row
end

-- A moment as it is kept.
local function moment(ms)
  local word = ''
  repeat
    local digit = ms % 36
    word = string.sub('0123456789abcdefghijklmnopqrstuvwxyz', digit + 1, digit + 1) .. word
    ms = (ms - digit) / 36
  until ms == 0
  return word
end

local function row_record(row)
  local more = row.more
  if more == nil then
    more = moment(row.ends) .. ' ' .. moment(row.created)
    if row.e > 0 or row.v > 0 or row.actions ~= '*' or row.models ~= '*' then
      more = string.format('%s %d %d %s %s', more, row.e, row.v, row.actions, row.models)
    end
  end
  return row.kind .. row.status .. string.format(' %d %d %d ', row.a, row.h, row.s) .. more
end
