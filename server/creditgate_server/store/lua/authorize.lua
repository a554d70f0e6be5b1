-- Set the price of a job aside until `ttl_ms` from now, unless settled or refunded before.
--   KEYS     1 account  2 deadlines  3 ledger  4 closed
--   ARGV     1 account_id  2 clock  3 ranks  4 hold_id  5 on_failed  6 compensation_ms  7 fingerprint
--            8 amount ('' is unpriced)  9 amount_max ('' is any)  10 ttl_ms  11 action  12 model  13 member  14 terms
--   reply    { outcome, seq, available, held, debt, now_ms, amount, hold, replayed, missing }
--   outcome  account_not_found | id_reused | unpriced_action | price_changed | insufficient_credits | approved
local account, deadlines, ledger, closed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local account_id, clock, ranks, hold_id, on_failed, compensation_ms, fingerprint = unpack(ARGV, 1, 7)
local amount, amount_max, ttl_ms, action, model, member, terms = unpack(ARGV, 8, 14)

-- Decide. Nothing is written but by `answer`.
local a = open_account(account, deadlines, ledger, closed, account_id, clock, ranks, hold_id)
if a == nil then
  return { 'account_not_found' }
end
return answer(a, unpack(place(a, {
  id = hold_id, fingerprint = fingerprint, amount = amount, amount_max = amount_max, ttl_ms = tonumber(ttl_ms),
  action = action, model = model, member = member, terms = terms, on_failed = on_failed,
  compensation_ms = tonumber(compensation_ms),
}, 'h')))
