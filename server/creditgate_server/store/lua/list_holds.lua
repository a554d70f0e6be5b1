-- Show open holds, about as many as asked for.
--   flags    no-writes
--   KEYS     1 account
--   ARGV     1 cursor ('' is the start)  2 count
--   reply    { outcome, cursor ('' is the end), hold_id, hold, hold_id, hold, … }
--   outcome  account_not_found | holds
local account = KEYS[1]
local cursor, count = unpack(ARGV, 1, 2)

if redis.call('HEXISTS', account, 'state') == 0 then
  return { 'account_not_found' }
end
local page = redis.call('HSCAN', account, cursor == '' and '0' or cursor, 'MATCH', 'h:*', 'COUNT', count)
local reply = { 'holds', page[1] == '0' and '' or page[1] }
for i = 1, #page[2], 2 do
  reply[#reply + 1] = string.sub(page[2][i], 3)
  reply[#reply + 1] = page[2][i + 1]
end
return reply
