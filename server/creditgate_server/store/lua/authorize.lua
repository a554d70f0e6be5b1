-- Set the price of a job aside until `ttl_ms` from now, unless settled or refunded before.
--   needs    place
--   KEYS     1 account  2 deadlines  3 ledger  4 closed
--   ARGV     1 account_id  2 clock  3 ranks  4 turn  5 hold_id  6 on_failed  7 compensation_ms  8 fingerprint
--            9 amount ('' is unpriced)  10 amount_max ('' is any)  11 ttl_ms  12 action  13 model  14 member
--            15 gate  16 terms
--   reply    { outcome, totals, amount, hold, replayed, missing, plan, schedule }
--   outcome  account_not_found | turn_due | id_reused | unpriced_action | price_changed | account_frozen
--            | plan_required | member_limit | concurrency_limit | insufficient_credits | approved
local account, deadlines, ledger, closed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local account_id, clock, ranks, turn, hold_id, on_failed, compensation_ms, fingerprint = unpack(ARGV, 1, 8)
local amount, amount_max, ttl_ms, action, model, member, gate, terms = unpack(ARGV, 9, 16)

-- Decide. Nothing is written but by `answer`.
local a, refusal = open_account(account, deadlines, ledger, closed, account_id, clock, ranks, turn, 'h:' .. hold_id)
if refusal then
  return refusal
end
return place(a, {
  id = hold_id, fingerprint = fingerprint, amount = amount, amount_max = amount_max, ttl_ms = tonumber(ttl_ms),
  action = action, model = model, member = member, gate = gate, terms = terms, on_failed = on_failed,
  compensation_ms = tonumber(compensation_ms),
}, 'h')
