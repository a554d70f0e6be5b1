-- What was done to a hold, so that it is done once.
--   needs    hold

local OPERATIONS_MAX = 100
-- No operation is shorter: a fingerprint alone has sixteen letters.
local OPERATION_LETTERS = 16

-- How a hold has ended.
local ENDED = { S = 'hold_settled', R = 'hold_refunded', E = 'hold_expired' }

-- The recorded operation of this id, or nil. One without an id is known by its verb and its content.
local function find_operation(hold, id, verb, fingerprint)
  if hold.operations == '*' then
    return nil
  end
  local operations = ',' .. hold.operations .. ','
  local wanted = id == '' and ',*/' .. verb .. '/' .. fingerprint .. '/' or ',' .. id .. '/'
  local at = string.find(operations, wanted, 1, true)
  if at == nil then
    return nil
  end
  local found, charged, rest = string.match(operations, '^,[^/]+/%a/([^/]+)/(%d+)([^,]*)', at)
  local shortfall, returned, late = string.match(rest == '' and '/0/0/0' or rest, '^/(%d+)/(%d+)/(%d)$')
  return { fingerprint = found, charged = charged, shortfall = shortfall, returned = returned, late = late }
end

local function is_full(hold)
  if #hold.operations < OPERATIONS_MAX * OPERATION_LETTERS then
    return false
  end
  local _, commas = string.gsub(hold.operations, ',', '')
  return commas + 1 >= OPERATIONS_MAX
end

local function add_operation(hold, id, verb, fingerprint, charged, shortfall, returned, late)
  local operation = (id == '' and '*' or id) .. '/' .. verb .. '/' .. fingerprint .. '/' .. text(charged)
  if shortfall > 0 or returned > 0 or late ~= '0' then
    operation = string.format('%s/%d/%d/%s', operation, shortfall, returned, late)
  end
  hold.operations = hold.operations == '*' and operation or hold.operations .. ',' .. operation
end
