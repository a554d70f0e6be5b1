-- Limit what a member, or each member, may draw in a cap period.
--   needs    credits
--   KEYS     1 account  2 deadlines  3 ledger  4 closed
--   ARGV     1 account_id  2 clock  3 ranks  4 turn  5 member ('*' is each)  6 limit ('*' is none)
--   reply    { outcome, totals, used }
--   outcome  account_not_found | turn_due | set
local account, deadlines, ledger, closed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local account_id, clock, ranks, turn, member, limit = unpack(ARGV, 1, 6)

-- Decide. Nothing is written but by `answer`.
local a, refusal = open_account(account, deadlines, ledger, closed, account_id, clock, ranks, turn)
if refusal then
  return refusal
end
if member == '*' then
  put(a, 'm:*', limit)
  return answer(a, 'set', '0')
end
local _, used = member_share(a, member)
a.share.own, a.share.member, a.changed = limit, member, true
return answer(a, 'set', text(used))
