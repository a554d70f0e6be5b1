-- Ordered lists of names, in chunks: neither a look nor a change costs what the whole list would.
--   needs    rows

-- A chunk is divided when it grows beyond this, between names: none is half as long.
local CHUNK_MAX = 640

-- Made only when asked for: a script makes its functions anew at every call.
local function lists(a)
  if a.lists then
    return a.lists
  end
  local chunks, changed = { order = a.order }, {}
  local KINDS = 'FSATPRC'

  -- Burn-down: by the rank of its kind, then the earlier end (never is last), then the older row, then its name.
  local function drawn_before(x, y)
    local p = string.byte(a.ranks, string.find(KINDS, x.kind, 1, true))
    local q = string.byte(a.ranks, string.find(KINDS, y.kind, 1, true))
    if p ~= q then return p < q end
    x, y = whole(x), whole(y)
    if x.ends ~= y.ends then return x.ends ~= 0 and (y.ends == 0 or x.ends < y.ends) end
    if x.created ~= y.created then return x.created < y.created end
    return x.name < y.name
  end

  local function ends_before(x, y)
    x, y = whole(x), whole(y)
    if x.ends ~= y.ends then return x.ends < y.ends end
    return x.name < y.name
  end

  local BEFORE = { order = drawn_before, ends = ends_before }

  local function chunk(field)
    local names = chunks[field]
    if names == nil then
      names = redis.call('HGET', a.key, field) or ' '
      chunks[field] = names
    end
    return names
  end

  local function set_chunk(field, names)
    chunks[field] = names
    changed[field] = true
  end

  -- The fields of a list's chunks: its own, then those that `<list>+` names. Only an empty list has an empty chunk.
  local function fields_of(list)
    local fields = { list }
    for number in string.gmatch(chunk(list .. '+'), '%S+') do
      fields[#fields + 1] = list .. number
    end
    return fields
  end

  local function set_fields(list, fields)
    local numbers = ' '
    for i = 2, #fields do
      numbers = numbers .. string.sub(fields[i], #list + 1) .. ' '
    end
    set_chunk(list .. '+', numbers)
  end

  -- In which chunk a row stands, or would stand: its place in `fields`, by halving. Without an order it is the last.
  local function place_in(list, fields, row)
    local before, lo, hi = BEFORE[list], 1, #fields
    if before == nil then
      return hi
    end
    while lo < hi do
      local middle = math.ceil((lo + hi) / 2)
      local first = string.match(chunk(fields[middle]), '%S+')
      if before(row, row_of(a, first)) then
        hi = middle - 1
      else
        lo = middle
      end
    end
    return lo
  end

  -- Whether the row belongs into the first chunk, so that nobody need look at the others.
  local function comes_first(list, row)
    local before = BEFORE[list]
    local last = before and string.match(chunk(list), '^.* (%S+) $')
    return last ~= nil and (last == row.name or before(row, row_of(a, last)))
  end

  -- Insert by halving, so that a chunk costs a few looks: lo and hi are the places of spaces.
  local function inserted(list, names, row)
    local before, lo, hi = BEFORE[list], 1, #names
    if before == nil then
      lo = hi
    end
    while lo < hi do
      local at = string.find(names, ' ', math.floor((lo + hi) / 2), true)
      if at >= hi then at = lo end
      local other = string.match(names, '^%S+', at + 1)
      if before(row_of(a, other), row) then
        lo = at + #other + 1
      else
        hi = at
      end
    end
    return string.sub(names, 1, lo) .. row.name .. string.sub(names, lo)
  end

  local function insert(list, row)
    local fields, i = { list }, 1
    if not comes_first(list, row) then
      fields = fields_of(list)
      i = place_in(list, fields, row)
    end
    local names = inserted(list, chunk(fields[i]), row)
    if #names > CHUNK_MAX then
      fields = fields_of(list)
      local highest = 0
      for j = 2, #fields do
        highest = math.max(highest, string.sub(fields[j], #list + 1))
      end
      local middle = string.find(names, ' ', math.floor(#names / 2), true)
      table.insert(fields, i + 1, list .. text(highest + 1))
      set_chunk(fields[i + 1], string.sub(names, middle))
      set_fields(list, fields)
      names = string.sub(names, 1, middle)
    end
    set_chunk(fields[i], names)
  end

  -- A row leaves a list; nothing happens if it is not there. It must stand as it was when it came.
  local function remove(list, row)
    local name, fields, i = ' ' .. row.name .. ' ', { list }, 1
    local at, to = string.find(chunk(list), name, 1, true)
    if at == nil then
      fields = fields_of(list)
      i = place_in(list, fields, row)
      at, to = string.find(chunk(fields[i]), name, 1, true)
      -- Without an order it may stand in any.
      while at == nil and i > 1 and BEFORE[list] == nil do
        i = i - 1
        at, to = string.find(chunk(fields[i]), name, 1, true)
      end
    end
    if at == nil then
      return
    end
    local names = chunk(fields[i])
    names = string.sub(names, 1, at) .. string.sub(names, to + 1)
    if names == ' ' then
      fields = fields_of(list)
      if #fields > 1 then
        -- The next one takes the place of the first; any other goes.
        local gone = math.max(i, 2)
        names = i == 1 and chunk(fields[2]) or ' '
        set_chunk(fields[gone], ' ')
        set_chunk(fields[i], names)
        table.remove(fields, gone)
        set_fields(list, fields)
        return
      end
    end
    set_chunk(fields[i], names)
  end

  -- All names of a list.
  local function names_of(list)
    local found = {}
    for _, field in ipairs(fields_of(list)) do
      for name in string.gmatch(chunk(field), '%S+') do
        found[#found + 1] = name
      end
    end
    return found
  end

  local function clear(list)
    for _, field in ipairs(fields_of(list)) do
      set_chunk(field, ' ')
    end
    set_fields(list, { list })
  end

  -- Note the changes for the write. An empty chunk is not kept.
  local function note(sets, drops)
    for field in pairs(changed) do
      if chunks[field] == ' ' then
        drops[#drops + 1] = field
      else
        sets[#sets + 1] = field
        sets[#sets + 1] = chunks[field]
      end
    end
  end

  a.lists = {
    changed = changed, note = note, chunk = chunk, fields_of = fields_of, insert = insert, remove = remove,
    names_of = names_of, clear = clear,
  }
  return a.lists
end
