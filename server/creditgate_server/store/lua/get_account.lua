-- Show an account.
--   KEYS     1 account  2 deadlines  3 ledger  4 closed
--   ARGV     1 account_id  2 clock
--   reply    { outcome, seq, available, held, debt, now_ms, zone, created_ms }
--   outcome  account_not_found | account
local account, deadlines, ledger, closed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local account_id, clock = unpack(ARGV, 1, 2)

-- Decide. Nothing is written but by `answer`.
local a = open_account(account, deadlines, ledger, closed, account_id, clock, '')
if a == nil then
  return { 'account_not_found' }
end
return answer(a, 'account', string.match(a.found, '^(%S+) (%d+)$'))
