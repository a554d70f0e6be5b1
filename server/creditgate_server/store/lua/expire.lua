-- Return a hold whose deadline has passed.
--   flags    allow-oom
--   KEYS     1 account  2 deadlines  3 ledger  4 closed
--   ARGV     1 account_id  2 clock  3 ranks  4 hold_id  5 on_failed  6 compensation_ms
--   reply    { outcome, seq, available, held, debt, now_ms, returned }
--   outcome  not_due | expired
local account, deadlines, ledger, closed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local account_id, clock, ranks, hold_id, on_failed, compensation_ms = unpack(ARGV, 1, 6)

local a = open_account(account, deadlines, ledger, closed, account_id, clock, ranks, hold_id)
if a == nil or not a.found then
  -- A deadline without an open hold means nothing.
  redis.call('ZREM', deadlines, account_id .. '/' .. hold_id)
  return { 'not_due' }
end
local returned = expire_if_due(a, find_hold(a, hold_id), on_failed, tonumber(compensation_ms))
if returned == nil then
  return answer(a, 'not_due')
end
return answer(a, 'expired', text(returned))
