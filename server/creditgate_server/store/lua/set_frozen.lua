-- Deny new holds of an account, or allow them again.
--   needs    account
--   KEYS     1 account  2 deadlines  3 ledger  4 closed
--   ARGV     1 account_id  2 clock  3 ranks  4 turn  5 frozen
--   reply    { outcome, totals }
--   outcome  account_not_found | turn_due | set
local account, deadlines, ledger, closed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local account_id, clock, ranks, turn, frozen = unpack(ARGV, 1, 5)

-- Decide. Nothing is written but by `answer`.
local a, refusal = open_account(account, deadlines, ledger, closed, account_id, clock, ranks, turn)
if refusal then
  return refusal
end
a.changed = a.changed or a.frozen ~= frozen
a.frozen = frozen
return answer(a, 'set')
