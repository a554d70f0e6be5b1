-- Take back what is available in a row; what is held follows when it comes back.
--   needs    account
--   KEYS     1 account  2 deadlines  3 ledger  4 closed
--   ARGV     1 account_id  2 clock  3 ranks  4 turn  5 row
--   reply    { outcome, totals, record }
--   outcome  account_not_found | turn_due | bucket_not_found | voided
local account, deadlines, ledger, closed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local account_id, clock, ranks, turn, name = unpack(ARGV, 1, 5)

-- Decide. Nothing is written but by `answer`.
local a, refusal = open_account(account, deadlines, ledger, closed, account_id, clock, ranks, turn)
if refusal then
  return refusal
end
local row = row_of(a, name)
if row == nil then
  return answer(a, 'bucket_not_found')
end
if row.status == 'L' or row.status == 'F' then
  changes(a).end_row(row, 'v', 'V')
  record(a, 'void_bucket', nil, nil, 0, row)
end
return answer(a, 'voided', row_record(row))
