-- Put credits on an account, as a row of their own; a debt takes its part at once.
--   needs    account
--   KEYS     1 account  2 deadlines  3 ledger  4 closed
--   ARGV     1 account_id  2 clock  3 ranks  4 turn  5 source_ref  6 kind  7 amount
--            8 ends_ms ('0' is never)  9 actions  10 models  11 buyers (plans that may buy, '*' is any)
--   reply    { outcome, totals, record, replayed }
--            plan_required: { outcome, …, plan, schedule }
--   outcome  account_not_found | turn_due | id_reused | ends_in_the_past | plan_required
--            | amount_overflow | granted
local account, deadlines, ledger, closed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local account_id, clock, ranks, turn = unpack(ARGV, 1, 4)
local source_ref, kind, granted, ends_ms, actions, models, buyers = unpack(ARGV, 5, 11)

-- Decide. Nothing is written but by `answer`.
local a, refusal = open_account(account, deadlines, ledger, closed, account_id, clock, ranks, turn)
if refusal then
  return refusal
end
local amount, ends = tonumber(granted), tonumber(ends_ms)
local row = row_of(a, source_ref)
if row ~= nil then
  whole(row)
  local before = row.a + row.h + row.s + row.e + row.v
  if row.kind == kind and before == amount and row.ends == ends and row.actions == actions and row.models == models then
    return answer(a, 'granted', row_record(row), '1')
  end
  return answer(a, 'id_reused')
end
if ends > 0 and ends <= a.now then
  return answer(a, 'ends_in_the_past')
end
if buyers ~= '*' and not string.find(buyers, ',' .. a.plan .. ',', 1, true) then
  return answer(a, 'plan_required', a.plan, schedule_of(a))
end
if a.available + a.held + amount > AMOUNT_MAX then
  return answer(a, 'amount_overflow')
end

-- What follows must succeed.
row = changes(a).add_row(source_ref, kind, ends, actions, models)
changes(a).arrive(row, amount, 'grant')
return answer(a, 'granted', row_record(row), '0')
