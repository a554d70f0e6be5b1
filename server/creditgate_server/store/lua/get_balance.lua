-- Show every row: those with something available in burn-down order, then the others, the oldest first.
--   needs    account
--   KEYS     1 account  2 deadlines  3 ledger  4 closed
--   ARGV     1 account_id  2 clock  3 ranks  4 turn
--   reply    { outcome, totals, open_holds, zone, plan, frozen, schedule,
--            row, record, … }
--   outcome  account_not_found | turn_due | balance
local account, deadlines, ledger, closed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local account_id, clock, ranks, turn = unpack(ARGV, 1, 4)

-- Decide. Nothing is written but by `answer`.
local a, refusal = open_account(account, deadlines, ledger, closed, account_id, clock, ranks, turn)
if refusal then
  return refusal
end
local zone = string.match(a.profile, '^[^ ]+')
local reply = answer(a, 'balance', text(a.open), zone, a.plan, a.frozen, schedule_of(a))
local shown, rows, fields = {}, {}, {}
for _, list in ipairs({ 'order', 'rows' }) do
  for _, name in ipairs(lists(a).names_of(list)) do
    if not shown[name] then
      shown[name] = true
      rows[#rows + 1] = name
      fields[#fields + 1] = 'b:' .. name
    end
  end
end
-- In pieces: `unpack` takes some thousands of values at most.
for first = 1, #rows, 1000 do
  local last = math.min(first + 999, #rows)
  for i, found in ipairs(redis.call('HMGET', account, unpack(fields, first, last))) do
    reply[#reply + 1] = rows[first + i - 1]
    reply[#reply + 1] = found
  end
end
return reply
