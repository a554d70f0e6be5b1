-- Return a hold whose deadline has passed.
--   flags    allow-oom
--   needs    returns
--   KEYS     1 account  2 deadlines  3 ledger  4 closed
--   ARGV     1 account_id  2 clock  3 ranks  4 turn  5 hold_id  6 on_failed  7 compensation_ms
--   reply    { outcome, totals, returned }
--   outcome  not_due | account_not_found | turn_due | expired
local account, deadlines, ledger, closed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local account_id, clock, ranks, turn, hold_id, on_failed, compensation_ms = unpack(ARGV, 1, 7)

if redis.call('HEXISTS', account, 'h:' .. hold_id) == 0 then
  -- A deadline without an open hold means nothing.
  redis.call('ZREM', deadlines, account_id .. '/' .. hold_id)
  return { 'not_due' }
end

-- Decide. Nothing is written but by `answer`.
local a, refusal = open_account(account, deadlines, ledger, closed, account_id, clock, ranks, turn, 'h:' .. hold_id)
if refusal then
  return refusal
end
local returned = expire_if_due(a, find_hold(a, hold_id), on_failed, tonumber(compensation_ms))
if returned == nil then
  return answer(a, 'not_due')
end
return answer(a, 'expired', text(returned))
