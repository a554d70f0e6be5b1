-- Drop records of holds that ended long ago, walking the ledger from its old end; tell which rows may go.
--   KEYS     1 ledger  2 closed  3 forgotten (the last entry seen)
--   ARGV     1 clock  2 keep_ms  3 count
--   reply    { entries seen, account_id, row, account_id, row, … }
--   outcome  none: it always answers
local ledger, closed, forgotten = KEYS[1], KEYS[2], KEYS[3]
local clock, keep_ms, count = unpack(ARGV, 1, 3)

local cutoff = instant(clock, 0) - keep_ms
local after = redis.call('GET', forgotten)
local entries = redis.call('XRANGE', ledger, after and '(' .. after or '-', '+', 'COUNT', count)
local reply, last, gone = { 0 }, after, {}
for i, found in ipairs(entries) do
  local entry = {}
  for j = 1, #found[2], 2 do
    entry[found[2][j]] = found[2][j + 1]
  end
  if tonumber(entry.at) > cutoff then
    break
  end
  reply[1], last = i, found[1]
  if entry.verb == 'end_bucket' or entry.verb == 'void_bucket' then
    reply[#reply + 1] = entry.account
    reply[#reply + 1] = entry.row
  elseif entry.hold ~= '*' then
    -- A hold may have been settled late since: its own record says when it ended.
    local owner = entry.account
    local member = owner .. '/' .. entry.hold
    local record = redis.call('HGET', closed, member)
    local ended = record and string.match(record, '^%a %d+ %d+ %d+ %d+ %d+ %d+ (%d+) ')
    if ended and tonumber(ended) <= cutoff then
      gone[#gone + 1] = member
    end
  end
end

-- Write. From here on it must succeed.
if #gone > 0 then
  redis.call('HDEL', closed, unpack(gone))
end
if last ~= after then
  redis.call('SET', forgotten, last)
end
return reply
