-- Show holds whose deadline has passed, the longest due first.
--   flags    no-writes
--   needs    base
--   KEYS     1 deadlines
--   ARGV     1 clock  2 count
--   reply    { now_ms, account_id/hold_id, … }
--   outcome  none: it always answers
local deadlines = KEYS[1]
local clock, count = unpack(ARGV, 1, 2)

local now_ms = text(instant(clock, 0))
return { now_ms, unpack(redis.call('ZRANGEBYSCORE', deadlines, '-inf', now_ms, 'LIMIT', 0, count)) }
