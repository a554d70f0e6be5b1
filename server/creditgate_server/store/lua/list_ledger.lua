-- Show entries of an account, the latest first: each names the one before it, so that others cost nothing.
--   flags    no-writes
--   KEYS     1 account  2 ledger
--   ARGV     1 account_id  2 cursor ('' is the latest)  3 count
--   reply    { outcome, cursor ('' is the end), entry, entry, … }, an entry being its words
--   outcome  account_not_found | not_a_cursor | entries
local account, ledger = KEYS[1], KEYS[2]
local account_id, cursor, count = unpack(ARGV, 1, 3)

local state = redis.call('HGET', account, 'state')
if not state then
  return { 'account_not_found' }
end
if cursor == '' then
  local seen, last = string.match(state, '([^ ]+) ([^ ]+)$')
  cursor = string.sub(last, 1, 1) == '-' and seen .. last or last
elseif #redis.call('XRANGE', ledger, cursor, cursor) == 0 then
  return { 'not_a_cursor' }
end
local reply = { 'entries', '' }
for _ = 1, tonumber(count) do
  local found = cursor ~= '0-0' and redis.call('XRANGE', ledger, cursor, cursor)[1]
  if not found then
    return reply
  end
  local entry = found[2][2]
  local owner, before = string.match(entry, '^(%S+) (%S+) ')
  if owner ~= account_id then
    return { 'not_a_cursor' }
  end
  reply[#reply + 1] = entry
  cursor = before
end
reply[2] = cursor == '0-0' and '' or cursor
return reply
