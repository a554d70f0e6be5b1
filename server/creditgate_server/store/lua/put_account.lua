-- Create an account, or change its zone.
--   needs    account
--   KEYS     1 account  2 deadlines  3 ledger  4 closed
--   ARGV     1 account_id  2 clock  3 ranks  4 turn  5 zone ('' is UTC, or no change)
--   reply    { outcome, totals, zone, created_ms, frozen, schedule, denied }
--            turn_due: { outcome, now_ms, schedule }
--   outcome  turn_due | created | account
local account, deadlines, ledger, closed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local account_id, clock, ranks, turn, zone = unpack(ARGV, 1, 5)

-- Decide. Nothing is written but by `answer`.
local a, refusal = open_account(account, deadlines, ledger, closed, account_id, clock, ranks, turn, 'denied')
if refusal and refusal[1] == 'account_not_found' then
  local now = instant(clock, 0)
  a = {
    key = account, deadlines = deadlines, ledger = ledger, closed = closed, id = account_id, created = true,
    seq = 0, available = 0, held = 0, debt = 0, open = 0, seen = now, now = now, due = 0, limited = 0, turn = 0,
    ranks = ranks, version = '0', plan = '*', cap = '0', schedule = '', frozen = '0', last = '0-0',
    order = ' ', row = {}, moves = '', entries = {}, sets = {},
  }
  refusal = changes(a).apply_turn(turn)
  if refusal then
    return refusal
  end
  zone = zone == '' and 'UTC' or zone
  a.profile = zone .. ' ' .. moment(a.now)
  return answer(a, 'created', zone, text(a.now), a.frozen, schedule_of(a), '')
end
if refusal then
  return refusal
end
local denied = a.found or ''
local zone_before, created = string.match(a.profile, '^([^ ]+) ([^ ]+)$')
local created_ms = text(tonumber(created, 36))
if zone == '' or zone == zone_before then
  return answer(a, 'account', zone_before, created_ms, a.frozen, schedule_of(a), denied)
end
if not a.turned then
  -- Nothing was due: the turn that was sent, if any, is for the zone.
  refusal = changes(a).apply_turn(turn)
  if refusal then
    return refusal
  end
end
a.profile, a.changed = zone .. ' ' .. created, true
return answer(a, 'account', zone, created_ms, a.frozen, schedule_of(a), denied)
