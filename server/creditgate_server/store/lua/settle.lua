-- Take what was delivered and return the rest.
--   flags    allow-oom
--   needs    returns operations price
--   KEYS     1 account  2 deadlines  3 ledger  4 closed
--   ARGV     1 account_id  2 clock  3 ranks  4 turn  5 hold_id  6 on_failed  7 compensation_ms  8 fingerprint
--            9 operation_id ('' is the one final settle)  10 amount ('' is none)  11 quantity ('' is none)
--            12 partial
--   reply    { outcome, totals, charged, shortfall, returned, late, hold, replayed }
--            of a hold that has ended: { outcome, …, charged, refunded }; amount_exceeds_hold: { outcome, …, held }
--   outcome  account_not_found | turn_due | hold_not_found | id_reused | hold_settled | hold_refunded | hold_expired
--            | too_many_operations | amount_overflow | amount_exceeds_hold | settled
local account, deadlines, ledger, closed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local account_id, clock, ranks, turn, hold_id, on_failed, compensation_ms, fingerprint = unpack(ARGV, 1, 8)
local operation_id, amount, quantity, partial = unpack(ARGV, 9, 12)

-- Decide. Nothing is written but by `answer`.
local a, refusal = open_account(account, deadlines, ledger, closed, account_id, clock, ranks, turn, 'h:' .. hold_id)
if refusal then
  return refusal
end
local hold = find_hold(a, hold_id)
if hold == nil then
  return answer(a, 'hold_not_found')
end
expire_if_due(a, hold, on_failed, tonumber(compensation_ms))
local earlier = find_operation(hold, operation_id, 's', fingerprint)
if earlier ~= nil and earlier.fingerprint == fingerprint then
  return answer(a, 'settled', earlier.charged, earlier.shortfall, earlier.returned, earlier.late, hold.record, '1')
end
if earlier ~= nil then
  return answer(a, 'id_reused')
end
local late = hold.state == 'E'
if hold.state == 'S' or hold.state == 'R' or (late and string.find(hold.pinned, '^ %a%d+x')) then
  return answer(a, ENDED[hold.state], text(hold.charged), text(hold.refunded))
end
if is_full(hold) then
  return answer(a, 'too_many_operations', text(OPERATIONS_MAX))
end
-- What the hold has to give, or would have had before it expired.
local held = late and math.max(0, hold.amount - hold.charged) or held_in(hold)
local delivered = held
if amount ~= '' then
  delivered = tonumber(amount)
elseif quantity ~= '' then
  delivered = rated(hold.price, tonumber(quantity))
  if delivered == nil then
    return answer(a, 'amount_overflow')
  end
end
local overage, limit = string.match(hold.pinned, '^ (%a)(%d+)')
if delivered > held and overage == 'r' then
  return answer(a, 'amount_exceeds_hold', text(held))
end
local from_hold = late and 0 or math.min(delivered, held)
local beyond = (overage == 'c' and math.min(delivered, held) or delivered) - from_hold
local picks, drawn = find_credits(a, math.min(beyond, a.available), hold.action, hold.model)
local overdrawn = 0
if overage == 'o' then
  overdrawn = math.min(beyond - drawn, math.max(0, limit - a.debt))
end
local charged = from_hold + drawn + overdrawn
if hold.charged + charged > AMOUNT_MAX then
  return answer(a, 'amount_overflow')
end

-- What follows must succeed.
-- In the order in which the slices were drawn.
local left = from_hold
for _, slice in ipairs(slices_of(hold)) do
  local part = math.min(left, slice.amount - slice.charged - slice.returned)
  if part > 0 then
    move(a, row_of(a, slice.name), 'h', 's', part)
    slice.charged = slice.charged + part
    left = left - part
  end
end
take(a, hold, picks, 's')
count_member(a, hold, drawn + overdrawn)
a.debt = a.debt + overdrawn
hold.overdrawn = hold.overdrawn + overdrawn
local shortfall = delivered - charged
hold.charged = hold.charged + charged
if late then
  hold.late = '1'
end
local returned = 0
if partial == '0' then
  returned = late and 0 or held - from_hold
  if returned > 0 then
    returns(a).give_back(hold, 'h', returned, on_failed, tonumber(compensation_ms))
    count_member(a, hold, -returned)
  end
  end_hold(a, hold, 'S')
end
record(a, 'settle', hold, operation_id, overdrawn)
add_operation(hold, operation_id, 's', fingerprint, charged, shortfall, returned, late and '1' or '0')
save_hold(a, hold)
return answer(a, 'settled', text(charged), text(shortfall), text(returned), late and '1' or '0', hold.record, '0')
