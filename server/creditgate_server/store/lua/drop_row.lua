-- Drop a row that has ended and of which nothing is held. It stays if something is: the next one to
-- look for it would be the end of a hold that was open all the while, and holds do not last that long.
--   needs    lists
--   KEYS     1 account
--   ARGV     1 row
--   reply    { outcome }
--   outcome  kept | dropped
local account = KEYS[1]
local name = ARGV[1]

local record = redis.call('HGET', account, 'b:' .. name)
local held, status
if record then
  status, held = string.match(record, '^.(.) [^ ]+ ([^ ]+) ')
end
if status == nil or status == 'L' or held ~= '0' then
  return { 'kept' }
end

local list = lists({ key = account, row = {} })
local puts, drops = {}, { 'b:' .. name, 'r:' .. name }
list.remove('rows', { name = name })
list.note(puts, drops)

-- Write. From here on it must succeed.
redis.call('HDEL', account, unpack(drops))
if #puts > 0 then
  redis.call('HSET', account, unpack(puts))
end
return { 'dropped' }
