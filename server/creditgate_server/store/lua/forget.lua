-- Drop records of holds that ended long ago, walking the ledger from its old end; tell which rows may go.
--   needs    base
--   KEYS     1 ledger  2 closed
--   ARGV     1 clock  2 keep_ms  3 count
--   reply    { entries seen, account_id, row, account_id, row, … }
--   outcome  none: it always answers
local ledger, closed = KEYS[1], KEYS[2]
local clock, keep_ms, count = unpack(ARGV, 1, 3)

local cutoff = instant(clock, 0) - keep_ms
-- Where this left off, in the field of no hold.
local after = redis.call('HGET', closed, '*') or '-'
local entries = redis.call('XRANGE', ledger, after == '-' and after or '(' .. after, '+', 'COUNT', count)
local reply, last, gone = { 0 }, after, {}
for i, found in ipairs(entries) do
  local account_id, at, verb, row, hold = string.match(found[2][2], '^(%S+) %S+ %d+ (%d+) (%S+) (%S+) (%S+)')
  if tonumber(at) > cutoff then
    break
  end
  reply[1], last = i, found[1]
  if verb == 'end_bucket' or verb == 'void_bucket' then
    reply[#reply + 1] = account_id
    reply[#reply + 1] = row
  elseif hold ~= '*' then
    -- A hold may have been settled late since: its own record says when it ended.
    local field = closed_field(account_id, hold)
    local record = redis.call('HGET', closed, field)
    local authorized, ended
    if record then
      authorized, ended = string.match(record, '^. %d+ %d+ (%d+) %d+ (%d+) ')
    end
    if record and authorized + ended <= cutoff then
      gone[#gone + 1] = field
    end
  end
end

-- Write. From here on it must succeed.
if #gone > 0 then
  redis.call('HDEL', closed, unpack(gone))
end
if last ~= after then
  redis.call('HSET', closed, '*', last)
end
return reply
