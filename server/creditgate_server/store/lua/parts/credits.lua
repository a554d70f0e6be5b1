-- Credits out into a hold, and back.
--   needs    hold

local function names(list, name)
  return list == '*' or string.find(',' .. list .. ',', ',' .. name .. ',', 1, true) ~= nil
end

local function pays(row, action, model)
  whole(row)
  return names(row.actions, action) and names(row.models, model)
end

-- Which rows would give `amount` for this job: a list of { row, n }, and how much they give together.
local function find_credits(a, amount, action, model)
  local picks, got = {}, 0
  if a.limited == 0 and a.available < amount then
    -- Every row may pay, so the total says it without a look at any of them.
    return picks, a.available
  end
  local chunk, fields, i = a.lists.order, nil, 1
  while chunk and got < amount do
    for name in string.gmatch(chunk, '%S+') do
      if got >= amount then
        break
      end
      local row = row_of(a, name)
      if a.limited == 0 or pays(row, action, model) then
        local n = math.min(row.a, amount - got)
        picks[#picks + 1] = { row = row, n = n }
        got = got + n
      end
    end
    if got < amount then
      fields, i = fields or lists().fields_of(a, 'order'), i + 1
      chunk = fields[i] and lists().chunk(a, fields[i])
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

-- Put credits of a period that is over into the newest row of its bucket that lives: in all as many as were spent
-- there, so that what can be spent never passes the allowance.
local function restore(a, name, n)
  local bucket, live = string.match(name, '^([^#]+)#'), nil
  for _, other in ipairs(bucket and lists().names_of(a, 'rows') or {}) do
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
local function give_back(a, hold, from, n, policy, life_ms, n_more)
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
          restore(a, slice.name, part)
        end
      end
    end
  end
  if owed > 0 then
    local row = changes().add_row(a, 'compensation/' .. text(a.seq + 1), 'C', a.now + life_ms, '*', '*')
    move(a, row, 'g', 'a', owed)
  end
end

-- If the deadline has passed, the hold goes back now, before anything else is decided about it.
local function expire_if_due(a, hold, policy, life_ms)
  if hold.state ~= 'O' or a.now < hold.deadline then
    return nil
  end
  local held = held_in(hold)
  give_back(a, hold, 'h', held, policy, life_ms)
  count_member(a, hold, -held)
  end_hold(a, hold, 'E')
  record(a, 'expire', hold)
  save_hold(a, hold)
  return held
end
