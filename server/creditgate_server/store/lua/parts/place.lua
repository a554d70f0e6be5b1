-- The ladder that authorize and charge share.
--   needs    returns

-- Which limit beside credits denies the job, or nil: `draw` is what it would draw, `opens` whether it opens a hold.
local function limit_of(a, wanted, draw, opens)
  if a.frozen == '1' then
    return 'account_frozen', '0'
  end
  local open_max = 0
  if wanted.gate ~= '*' then
    local _, to = string.find(wanted.gate, ',' .. a.plan .. '/', 1, true)
    if to == nil then
      return 'plan_required', '0'
    end
    open_max = tonumber(string.match(wanted.gate, '^%d+', to + 1))
  end
  if wanted.member ~= '*' then
    local limit, used = member_share(a, wanted.member)
    if limit and used + draw > limit then
      return 'member_limit', text(used + draw - limit)
    end
  end
  if opens and open_max > 0 and a.open >= open_max then
    return 'concurrency_limit', '0'
  end
  return nil
end

-- From replay to approval, and the reply. `figure` says whether the credits are set aside ('h') or charged at
-- once ('s').
local function place(a, wanted, figure)
  local charged = figure == 's'
  local earlier = find_hold(a, wanted.id)
  if earlier ~= nil then
    expire_if_due(a, earlier, wanted.on_failed, wanted.compensation_ms)
    if earlier.fingerprint ~= wanted.fingerprint then
      return answer(a, 'id_reused')
    end
    return answer(a, 'approved', text(earlier.first), earlier.record, '1', '0', '', '')
  end
  local price = tonumber(wanted.amount)
  local reason, missing = nil, '0'
  local picks, got
  if price == nil then
    reason = 'unpriced_action'
  elseif wanted.amount_max ~= '' and price > tonumber(wanted.amount_max) then
    reason = 'price_changed'
  else
    reason, missing = limit_of(a, wanted, price, not charged)
  end
  if reason == nil then
    picks, got = find_credits(a, price, wanted.action, wanted.model)
    if got < price then
      reason, missing = 'insufficient_credits', text(price - got)
    end
  end
  if reason ~= nil then
    -- The denial is remembered for whoever asks why; the same one again writes nothing.
    local denied = string.format('%s %s %s %s %s %s %s', reason, wanted.id, wanted.action, wanted.model, wanted.member,
      wanted.amount == '' and '0' or wanted.amount, missing)
    local noted = redis.call('HGET', a.key, 'denied')
    if not noted or string.match(noted, '^%d+ (.*)$') ~= denied then
      put(a, 'denied', text(a.seq) .. ' ' .. denied)
    end
    return answer(a, reason, price and wanted.amount or '0', '', '0', missing, a.plan, schedule_of(a))
  end
  -- How it may be settled is of no use to a hold that is.
  local terms = charged and string.match(wanted.terms, '^%S+ %S+ %S+ %S+') or wanted.terms
  local hold = {
    id = wanted.id, state = charged and 'S' or 'O', amount = price, charged = charged and price or 0, refunded = 0,
    overdrawn = 0, overdrawn_back = 0, late = '0', authorized = a.now,
    deadline = charged and a.now or a.now + wanted.ttl_ms, ended = 0, first = price, cap = a.cap, drawn = 0,
    fingerprint = wanted.fingerprint, slices = {}, operations = '*',
    job = wanted.member .. ' ' .. wanted.action .. ' ' .. wanted.model .. ' ' .. terms, pinned = '',
    member = wanted.member, action = wanted.action, model = wanted.model,
  }
  take(a, hold, picks, figure)
  count_member(a, hold, price)
  if not charged then
    a.open = a.open + 1
  end
  record(a, charged and 'charge' or 'authorize', hold)
  save_hold(a, hold)
  return answer(a, 'approved', wanted.amount, hold.record, '0', '0', '', '')
end
