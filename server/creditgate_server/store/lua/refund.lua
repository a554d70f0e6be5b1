-- Give back what an open hold has set aside, or up to what a settled hold has taken.
--   flags    allow-oom
--   needs    returns operations
--   KEYS     1 account  2 deadlines  3 ledger  4 closed
--   ARGV     1 account_id  2 clock  3 ranks  4 turn  5 hold_id  6 on_failed  7 compensation_ms  8 fingerprint
--            9 operation_id ('' is the one full refund)  10 amount ('' is all)  11 policy (for ended rows)
--   reply    { outcome, totals, refunded, hold, replayed }
--            hold_refunded: { outcome, …, charged, refunded }; refund_exceeds_charge: { outcome, …, refundable }
--   outcome  account_not_found | turn_due | hold_not_found | id_reused | hold_open | hold_refunded
--            | too_many_operations | refund_exceeds_charge | amount_overflow | refunded
local account, deadlines, ledger, closed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local account_id, clock, ranks, turn, hold_id, on_failed, compensation_ms, fingerprint = unpack(ARGV, 1, 8)
local operation_id, amount, policy = unpack(ARGV, 9, 11)

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
local earlier = find_operation(hold, operation_id, 'r', fingerprint)
if earlier ~= nil and earlier.fingerprint == fingerprint then
  return answer(a, 'refunded', earlier.charged, hold.record, '1')
end
if earlier ~= nil then
  return answer(a, 'id_reused')
end
local open = hold.state == 'O'
if open and amount ~= '' then
  return answer(a, 'hold_open')
end
local refundable = open and held_in(hold) or hold.charged - hold.refunded
if refundable == 0 and hold.state == 'E' then
  return answer(a, 'refunded', '0', hold.record, '0')
end
if refundable == 0 and hold.state == 'R' then
  return answer(a, 'hold_refunded', text(hold.charged), text(hold.refunded))
end
if not open and is_full(hold) then
  return answer(a, 'too_many_operations', text(OPERATIONS_MAX))
end
local n = amount == '' and refundable or tonumber(amount)
if n > refundable then
  return answer(a, 'refund_exceeds_charge', text(refundable))
end
local overdrawn = open and 0 or math.min(n, hold.overdrawn - hold.overdrawn_back)
local paid = math.min(overdrawn, a.debt)
if not open and a.available + a.held + (n - paid) > AMOUNT_MAX then
  return answer(a, 'amount_overflow')
end

-- What follows must succeed.
if open then
  returns(a).give_back(hold, 'h', n, policy, tonumber(compensation_ms))
  end_hold(a, hold, 'R')
else
  a.debt = a.debt - paid
  hold.overdrawn_back = hold.overdrawn_back + overdrawn
  hold.refunded = hold.refunded + n
  -- What credits that arrived since have paid of it cannot be undone there: it is made good.
  returns(a).give_back(hold, 's', n - overdrawn, policy, tonumber(compensation_ms), overdrawn - paid)
end
count_member(a, hold, -n)
record(a, 'refund', hold, operation_id, -paid)
add_operation(hold, operation_id, 'r', fingerprint, n, 0, 0, '0')
save_hold(a, hold)
return answer(a, 'refunded', text(n), hold.record, '0')
