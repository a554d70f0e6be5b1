-- Credits out of rows into a hold, and a member's share of them.
--   needs    hold

local function pays(row, action, model)
  whole(row)
  return (row.actions == '*' or string.find(',' .. row.actions .. ',', ',' .. action .. ',', 1, true) ~= nil)
    and (row.models == '*' or string.find(',' .. row.models .. ',', ',' .. model .. ',', 1, true) ~= nil)
end

-- Which rows would give `amount` for this job: a list of row, n, row, n …, and how much they give together.
local function find_credits(a, amount, action, model)
  local picks, got = {}, 0
  if a.limited == 0 and a.available < amount then
    -- Every row may pay, so the total says it without a look at any of them.
    return picks, a.available
  end
  local chunk, fields, i = a.lists and a.lists.chunk('order') or a.order, nil, 1
  while chunk and got < amount do
    for name in string.gmatch(chunk, '[^ ]+') do
      if got >= amount then
        break
      end
      local row = row_of(a, name)
      if a.limited == 0 or pays(row, action, model) then
        local n = math.min(row.a, amount - got)
        picks[#picks + 1] = row
        picks[#picks + 1] = n
        got = got + n
      end
    end
    if got < amount then
      fields, i = fields or lists(a).fields_of('order'), i + 1
      chunk = fields[i] and lists(a).chunk(fields[i])
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
  if hold.member == '*' then
    return
  end
  if hold.cap ~= a.cap then
    if n <= 0 then
      return
    end
    hold.cap, hold.drawn = a.cap, 0
  end
  n = math.max(n, -hold.drawn)
  hold.drawn = hold.drawn + n
  if n ~= 0 then
    local _, used = member_share(a, hold.member)
    a.share.used = math.max(0, used + n)
    a.share.member = hold.member
  end
end

-- Take what was found: into slices of the hold, set aside ('h') or charged at once ('s').
local function take(a, hold, picks, figure)
  local slices = slices_of(hold)
  for i = 1, #picks, 2 do
    local row, n = picks[i], picks[i + 1]
    if n > 0 then
      move(a, row, 'a', figure, n)
      slices[#slices + 1] = {
        kind = row.kind, amount = n, charged = figure == 's' and n or 0, returned = 0, refunded = 0, name = row.name,
      }
    end
  end
end
