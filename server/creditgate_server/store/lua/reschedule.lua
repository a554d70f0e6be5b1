-- Apply an event of the subscription: a turn that was worked out from the schedule as it stands.
--   needs    account
--   KEYS     1 account  2 deadlines  3 ledger  4 closed
--   ARGV     1 account_id  2 clock  3 ranks  4 turn ('' asks for the schedule)  5 reference  6 fingerprint
--   reply    { outcome, totals }; turn_due: { outcome, now_ms, schedule }
--   outcome  account_not_found | replayed | id_reused | turn_due | applied
local account, deadlines, ledger, closed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local account_id, clock, ranks, turn, reference, fingerprint = unpack(ARGV, 1, 6)

-- Decide. Nothing is written but by `answer`.
local known = redis.call('HGET', account, 'x:' .. reference)
if known then
  return { known == fingerprint and 'replayed' or 'id_reused' }
end
local a, refusal = open_account(account, deadlines, ledger, closed, account_id, clock, ranks, turn)
if refusal then
  return refusal
end
if not a.turned then
  refusal = changes(a).apply_turn(turn)
  if refusal then
    return refusal
  end
end

-- What follows must succeed.
put(a, 'x:' .. reference, fingerprint)
return answer(a, 'applied')
