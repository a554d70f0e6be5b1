-- What every script may use: the map of all keys and records, figures as text, the time.
--
-- The keys. All of one partition carry its hash tag, so that a script never leaves its slot. The first account of a
-- partition makes all of them, and none ever vanishes: while a slot moves, a store refuses scripts that find one of
-- their keys and miss another.
--   account    creditgate:{tag}:account:<account_id>    hash
--     state      seq available held debt open_holds clock_ms last_entry     of the entry what follows `clock_ms`,
--                if it begins so: "-0"
--     plan       due limited turn ranks frozen zone created version plan cap_period schedule
--                the schedule is what `core.schedule` keeps of periods, any number of words; nothing here reads it
--     denied     the last denial: seq reason hold action model member amount missing
--     order      names of live rows with something available, in burn-down order: " a b c "
--     ends       names of live rows that have an end, the earliest first
--     rows       names of all rows kept, the oldest first
--     order<n>   more of a long list, in chunks; order+ says which come after `order` itself (so for ends and rows)
--     b:<row>    kind and status (no space between) available held spent ends created expired voided actions models
--                the last four only if one of them is not 0 or "*"; what was granted is the sum of the figures
--     r:<row>    what was restored to it from periods that are over
--     h:<hold>   an open hold: the record below
--     m:<member> limit used cap_period; m:* the limit of each member that has none of its own
--     x:<ref>    the fingerprint of an event of the subscription
--   deadlines  creditgate:{tag}:deadlines               zset    <account_id>/<hold_id> by deadline_ms; * never
--   ledger     creditgate:{tag}:ledger                  stream  an entry per change, in one field: account prev seq
--                at_ms verb row hold operation member action model moves debt_change available held debt;
--                `prev` is the entry before it of this account
--   closed     creditgate:{tag}:closed                  hash    `closed_field` -> a hold that ended;
--                * -> the last ledger entry that `forget` has seen
--
-- A hold's record, words with a space between:
--   state amount charged
--   authorized_ms deadline ended       the last two from authorized_ms on
--   rare        refunded/overdrawn/overdrawn_back/late/first_amount/cap_period/drawn: the period it last drew in, and
--               what it drew there; "*" if nothing of it is but the first amount, which is the amount
--   fingerprint
--   slices      kind/amount/charged/returned/refunded/row      with commas between; what is 0 is left empty
--   operations  id/verb/fingerprint/charged/shortfall/returned/late  with commas between; the last three only if one
--               of them is not 0
--   member action model quantity settings catalog
--   price       flat/numerator/denominator/minimum/rounding/unit     a flat fee and a minimum of 0, and a denominator
--               of 1, are left empty
--   overage,overdraft_limit,late_settle (no space between) ttl_ms life_ms_max      as long as it may still be settled
-- "*" stands for nothing: no id contains it. Figures are whole numbers, written by %d, never by tostring.
-- Moments named without `_ms` are such numbers to the base of 36, written by `moment`. Words are read by [^ ]+, which
-- takes half as long as classes of letters.

local AMOUNT_MAX = 9007199254740991

-- Exact to 2^53, where tostring gives up at 10^14; half as long as %.0f takes.
local function text(n)
  return string.format('%d', n)
end

-- The instant by which this script lives: the store's clock, not a sidecar's, since many share one store;
-- never behind `seen_ms`, what the account has seen. `clock` is '' but for a test clock.
local function instant(clock, seen_ms)
  local now
  if clock == '' then
    local t = redis.call('TIME')
    now = t[1] * 1000 + math.floor(t[2] / 1000)
  else
    now = tonumber(clock)
  end
  return now < seen_ms and seen_ms or now
end

-- The field of a hold that ended. Names that are longer than 128 bits of their digest are kept as that.
local function closed_field(account_id, hold_id)
  local name = account_id .. '/' .. hold_id
  return #name > 32 and string.sub(redis.sha1hex(name), 1, 32) or name
end
