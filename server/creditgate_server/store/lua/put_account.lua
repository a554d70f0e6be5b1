-- Create an account, or change the settings of one that exists.
--   KEYS     1 account  2 deadlines  3 ledger  4 closed
--   ARGV     1 account_id  2 clock  3 zone ('' is UTC, or no change)
--   reply    { outcome, seq, available, held, debt, now_ms, zone, created_ms }
--   outcome  created | updated
local account, deadlines, ledger, closed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local account_id, clock, zone = unpack(ARGV, 1, 3)

-- Decide. Nothing is written but by `answer`.
local a = open_account(account, deadlines, ledger, closed, account_id, clock, '')
if a == nil then
  a = new_account(account, deadlines, ledger, closed, account_id, clock)
  zone = zone == '' and 'UTC' or zone
  put(a, 'profile', zone .. ' ' .. text(a.now))
  return answer(a, 'created', zone, text(a.now))
end
local zone_before, created_ms = string.match(a.found, '^(%S+) (%d+)$')
if zone == '' or zone == zone_before then
  return answer(a, 'updated', zone_before, created_ms)
end
put(a, 'profile', zone .. ' ' .. created_ms)
return answer(a, 'updated', zone, created_ms)
