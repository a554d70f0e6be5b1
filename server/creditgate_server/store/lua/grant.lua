-- Put credits on an account, as a row of their own; a debt takes its part at once.
--   KEYS     1 account  2 deadlines  3 ledger  4 closed
--   ARGV     1 account_id  2 clock  3 ranks  4 source_ref  5 kind  6 amount
--            7 ends_ms ('0' is never)  8 actions  9 models
--   reply    { outcome, seq, available, held, debt, now_ms, record, replayed }
--   outcome  account_not_found | id_reused | ends_in_the_past | amount_overflow | granted
local account, deadlines, ledger, closed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local account_id, clock, ranks = unpack(ARGV, 1, 3)
local source_ref, kind, granted, ends_ms, actions, models = unpack(ARGV, 4, 9)

-- Decide. Nothing is written but by `answer`.
local a = open_account(account, deadlines, ledger, closed, account_id, clock, ranks)
if a == nil then
  return { 'account_not_found' }
end
local amount, ends = tonumber(granted), tonumber(ends_ms)
local row = row_of(a, source_ref)
if row ~= nil then
  if row.kind == kind and row.g == amount and row.ends == ends and row.actions == actions and row.models == models then
    return answer(a, 'granted', row_record(row), '1')
  end
  return answer(a, 'id_reused')
end
if ends > 0 and ends <= a.now then
  return answer(a, 'ends_in_the_past')
end
if a.available + a.held + amount > AMOUNT_MAX then
  return answer(a, 'amount_overflow')
end

-- What follows must succeed.
row = add_row(a, source_ref, kind, ends, actions, models)
move(a, row, 'g', 'a', amount)
record(a, 'grant', nil, nil, 0, row)
local paid = math.min(a.debt, amount)
if paid > 0 then
  move(a, row, 'a', 's', paid)
  a.debt = a.debt - paid
  record(a, 'pay_debt', nil, nil, -paid, row)
end
return answer(a, 'granted', row_record(row), '0')
