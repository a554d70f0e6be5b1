-- Move the deadline of an open hold to `ttl_ms` from now, and raise its total if asked. All or nothing.
--   needs    returns operations price
--   KEYS     1 account  2 deadlines  3 ledger  4 closed
--   ARGV     1 account_id  2 clock  3 ranks  4 turn  5 hold_id  6 on_failed  7 compensation_ms  8 fingerprint
--            9 ttl_ms ('' is that of Authorize)  10 amount ('' is none)  11 quantity ('' is none)
--   reply    { outcome, totals, hold, missing, plan, schedule }
--            of a hold that has ended: { outcome, …, charged, refunded }
--   outcome  account_not_found | turn_due | hold_not_found | hold_settled | hold_refunded | hold_expired
--            | amount_overflow | member_limit | insufficient_credits | approved
local account, deadlines, ledger, closed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local account_id, clock, ranks, turn, hold_id, on_failed, compensation_ms, fingerprint = unpack(ARGV, 1, 8)
local ttl_ms, amount, quantity = unpack(ARGV, 9, 11)

-- Decide. Nothing is written but by `answer`.
local a, refusal = open_account(account, deadlines, ledger, closed, account_id, clock, ranks, turn, 'h:' .. hold_id)
if refusal then
  return refusal
end
local hold = find_hold(a, hold_id)
if hold == nil then
  return answer(a, 'hold_not_found')
end
expire_if_due(a, hold, on_failed, tonumber(compensation_ms))
if hold.state ~= 'O' then
  return answer(a, ENDED[hold.state], text(hold.charged), text(hold.refunded))
end
local total = hold.amount
if amount ~= '' then
  total = tonumber(amount)
elseif quantity ~= '' then
  total = rated(hold.price, tonumber(quantity))
  if total == nil then
    return answer(a, 'amount_overflow')
  end
end
local raise = math.max(0, total - hold.amount)
if raise > 0 and hold.member ~= '*' then
  local limit, used = member_share(a, hold.member)
  if limit and used + raise > limit then
    return answer(a, 'member_limit', hold.record, text(used + raise - limit), a.plan, schedule_of(a))
  end
end
local picks, got = find_credits(a, raise, hold.action, hold.model)
if got < raise then
  return answer(a, 'insufficient_credits', hold.record, text(raise - got), a.plan, schedule_of(a))
end

-- What follows must succeed.
local ttl, life = string.match(hold.pinned, ' (%d+) (%d+)$')
if ttl_ms ~= '' then
  ttl = ttl_ms
end
hold.deadline = math.max(hold.deadline, math.min(a.now + ttl, hold.authorized + life))
hold.amount = hold.amount + raise
take(a, hold, picks, 'h')
count_member(a, hold, raise)
record(a, 'extend', hold)
save_hold(a, hold)
return answer(a, 'approved', hold.record, '0', '', '')
