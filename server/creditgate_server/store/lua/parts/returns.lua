-- Credits back out of a hold, and how it ends.
--   needs    credits

-- What the hold still has set aside.
local function held_in(hold)
  local held = 0
  for _, slice in ipairs(slices_of(hold)) do
    held = held + slice.amount - slice.charged - slice.returned
  end
  return held
end

-- The hold has ended: it is not open any more, and leaves the deadlines.
local function end_hold(a, hold, state)
  if hold.state == 'O' then
    a.open = a.open - 1
  end
  hold.state = state
  hold.ended = a.now - hold.authorized
  if state ~= 'E' then
    -- Nothing will be settled any more.
    hold.pinned = ''
  end
end

-- Made only when something comes back: a script makes its functions anew at every call.
local function returns(a)
  -- Put credits of a period that is over into the newest row of its bucket that lives: in all as many as were spent
  -- there, so that what can be spent never passes the allowance.
  local function restore(name, n)
    local bucket, live = string.match(name, '^([^#]+)#'), nil
    for _, other in ipairs(bucket and lists(a).names_of('rows') or {}) do
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

  -- Return `n` credits that stand in `from` ('h' or 's') to where they came from, the last drawn first. What can not
  -- go back because its row has ended is made good where the policy says so, and so are `n_more` that no row takes:
  -- in a row of its own, named after the change that makes it.
  local function give_back(hold, from, n, policy, life_ms, n_more)
    local owed = n_more or 0
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
      if part > 0 then
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
            restore(slice.name, part)
          end
        end
      end
    end
    if owed > 0 then
      local row = changes(a).add_row('compensation/' .. text(a.seq + 1), 'C', a.now + life_ms, '*', '*')
      move(a, row, 'g', 'a', owed)
    end
  end

  -- The deadline has passed: what is held goes back.
  local function expire(hold, policy, life_ms)
    local held = held_in(hold)
    give_back(hold, 'h', held, policy, life_ms)
    count_member(a, hold, -held)
    end_hold(a, hold, 'E')
    record(a, 'expire', hold)
    save_hold(a, hold)
    return held
  end

  return { give_back = give_back, expire = expire }
end

-- If the deadline has passed, the hold goes back now, before anything else is decided about it.
local function expire_if_due(a, hold, policy, life_ms)
  if hold.state == 'O' and a.now >= hold.deadline then
    return returns(a).expire(hold, policy, life_ms)
  end
  return nil
end
