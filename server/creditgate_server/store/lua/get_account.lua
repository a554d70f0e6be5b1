-- Show an account.
--   needs    account
--   KEYS     1 account  2 deadlines  3 ledger  4 closed
--   ARGV     1 account_id  2 clock  3 ranks  4 turn
--   reply    { outcome, totals, zone, created_ms, frozen, schedule, denied ('' is none) }
--   outcome  account_not_found | turn_due | account
local account, deadlines, ledger, closed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local account_id, clock, ranks, turn = unpack(ARGV, 1, 4)

-- Decide. Nothing is written but by `answer`.
local a, refusal = open_account(account, deadlines, ledger, closed, account_id, clock, ranks, turn, 'denied')
if refusal then
  return refusal
end
local zone, created = string.match(a.profile, '^([^ ]+) ([^ ]+)$')
return answer(a, 'account', zone, text(tonumber(created, 36)), a.frozen, schedule_of(a), a.found or '')
