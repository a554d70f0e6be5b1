-- Show one hold, open or ended.
--   flags    no-writes
--   needs    base
--   KEYS     1 account  2 closed
--   ARGV     1 account_id  2 hold_id
--   reply    { outcome, hold }
--   outcome  account_not_found | hold_not_found | hold
local account, closed = KEYS[1], KEYS[2]
local account_id, hold_id = unpack(ARGV, 1, 2)

local got = redis.call('HMGET', account, 'state', 'h:' .. hold_id)
if not got[1] then
  return { 'account_not_found' }
end
local hold = got[2] or redis.call('HGET', closed, closed_field(account_id, hold_id))
if not hold then
  return { 'hold_not_found' }
end
return { 'hold', hold }
