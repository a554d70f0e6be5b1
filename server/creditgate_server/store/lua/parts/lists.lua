-- Ordered lists of names, in chunks: neither a look nor a change costs what the whole list would.
--   needs    rows

-- A chunk is divided when it grows beyond this, between names: none is half as long.
local CHUNK_MAX = 640

-- Made only when asked for: a script makes its functions anew at every call.
local function lists()
  local function chunk(a, field)
    local names = a.lists[field]
    if names == nil then
      names = redis.call('HGET', a.key, field) or ' '
      a.lists[field] = names
    end
    return names
  end

  local function set_chunk(a, field, names)
    a.lists[field] = names
    a.relisted[field] = true
  end

  -- The fields of a list's chunks: its own, then those that `<list>+` names. Only an empty list has an empty chunk.
  local function fields_of(a, list)
    local fields = { list }
    for number in string.gmatch(chunk(a, list .. '+'), '%S+') do
      fields[#fields + 1] = list .. number
    end
    return fields
  end

  local function set_fields(a, list, fields)
    local numbers = ' '
    for i = 2, #fields do
      numbers = numbers .. string.sub(fields[i], #list + 1) .. ' '
    end
    set_chunk(a, list .. '+', numbers)
  end

  -- In which chunk a row stands, or would stand: its place in `fields`, by halving. Without an order it is the last.
  local function place_in(a, fields, row, before)
    local lo, hi = 1, #fields
    if before == nil then
      return hi
    end
    while lo < hi do
      local middle = math.ceil((lo + hi) / 2)
      local first = string.match(chunk(a, fields[middle]), '%S+')
      if before(a, row, row_of(a, first)) then
        hi = middle - 1
      else
        lo = middle
      end
    end
    return lo
  end

  -- Whether the row belongs into the first chunk, so that nobody need look at the others.
  local function comes_first(a, list, row, before)
    local last = before and string.match(chunk(a, list), '(%S+) $')
    return last ~= nil and (last == row.name or before(a, row, row_of(a, last)))
  end

  -- Insert by halving, so that a chunk costs a few looks: lo and hi are the places of spaces.
  local function inserted(a, names, row, before)
    local lo, hi = 1, #names
    if before == nil then
      lo = hi
    end
    while lo < hi do
      local at = string.find(names, ' ', math.floor((lo + hi) / 2), true)
      if at >= hi then at = lo end
      local other = string.match(names, '^%S+', at + 1)
      if before(a, row_of(a, other), row) then
        lo = at + #other + 1
      else
        hi = at
      end
    end
    return string.sub(names, 1, lo) .. row.name .. string.sub(names, lo)
  end

  local function insert(a, list, row, before)
    local fields, i = { list }, 1
    if not comes_first(a, list, row, before) then
      fields = fields_of(a, list)
      i = place_in(a, fields, row, before)
    end
    local names = inserted(a, chunk(a, fields[i]), row, before)
    if #names > CHUNK_MAX then
      fields = fields_of(a, list)
      local highest = 0
      for j = 2, #fields do
        highest = math.max(highest, string.sub(fields[j], #list + 1))
      end
      local middle = string.find(names, ' ', math.floor(#names / 2), true)
      table.insert(fields, i + 1, list .. text(highest + 1))
      set_chunk(a, fields[i + 1], string.sub(names, middle))
      set_fields(a, list, fields)
      names = string.sub(names, 1, middle)
    end
    set_chunk(a, fields[i], names)
  end

  -- A row leaves a list; nothing happens if it is not there. It must stand as it was when it came.
  local function remove(a, list, row, before)
    local fields, i = { list }, 1
    if not comes_first(a, list, row, before) then
      fields = fields_of(a, list)
      i = place_in(a, fields, row, before)
    end
    local name, at, to = ' ' .. row.name .. ' ', nil, nil
    repeat
      at, to = string.find(chunk(a, fields[i]), name, 1, true)
      -- Without an order it may stand in any.
      i = at and i or i - 1
    until at or before or i == 0
    if at == nil then
      return
    end
    local names = chunk(a, fields[i])
    names = string.sub(names, 1, at) .. string.sub(names, to + 1)
    if names == ' ' then
      fields = fields_of(a, list)
      if #fields > 1 then
        -- The next one takes the place of the first; any other goes.
        local gone = math.max(i, 2)
        names = i == 1 and chunk(a, fields[2]) or ' '
        set_chunk(a, fields[gone], ' ')
        set_chunk(a, fields[i], names)
        table.remove(fields, gone)
        set_fields(a, list, fields)
        return
      end
    end
    set_chunk(a, fields[i], names)
  end

  -- All names of a list.
  local function names_of(a, list)
    local found = {}
    for _, field in ipairs(fields_of(a, list)) do
      for name in string.gmatch(chunk(a, field), '%S+') do
        found[#found + 1] = name
      end
    end
    return found
  end

  local function clear(a, list)
    for _, field in ipairs(fields_of(a, list)) do
      set_chunk(a, field, ' ')
    end
    set_fields(a, list, { list })
  end

  return {
    chunk = chunk, fields_of = fields_of, insert = insert, remove = remove, names_of = names_of, clear = clear,
  }
end

-- Note the changes of lists for the write. An empty chunk is not kept.
local function relist(a, put, drop)
  for field in pairs(a.relisted) do
    if a.lists[field] == ' ' then
      drop[#drop + 1] = field
    else
      put[#put + 1] = field
      put[#put + 1] = a.lists[field]
    end
  end
end
