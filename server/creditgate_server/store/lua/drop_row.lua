-- Drop a row that has ended and of which nothing is held. It stays if something is: the next one to
-- look for it would be the end of a hold that was open all the while, and holds do not last that long.
--   KEYS     1 account
--   ARGV     1 row
--   reply    { outcome }
--   outcome  kept | dropped
local account = KEYS[1]
local name = ARGV[1]

local record = redis.call('HGET', account, 'b:' .. name)
local held, status
if record then
  held, status = string.match(record, '^%a %d+ %d+ (%d+) %d+ %d+ %d+ %d+ %d+ (%a) ')
end
if status == nil or status == 'L' or held ~= '0' then
  return { 'kept' }
end

-- Write. From here on it must succeed.
redis.call('HSET', account, 'rows', removed(redis.call('HGET', account, 'rows'), name))
redis.call('HDEL', account, 'b:' .. name, 'r:' .. name)
return { 'dropped' }
