-- What a quantity costs by the price that is pinned to a hold.
--   needs    base

-- The amount, or nil if it passes the largest one. The division is exact: the rest is taken off first.
local function rated(price, quantity)
  if quantity == 0 then
    return 0
  end
  local flat, numerator, denominator, minimum, rounding = string.match(price, '^(%d*)/(%d+)/(%d*)/(%d*)/(%a)/')
  flat, denominator, minimum = tonumber(flat) or 0, tonumber(denominator) or 1, tonumber(minimum) or 0
  local product = numerator * quantity
  if product > AMOUNT_MAX then
    return nil
  end
  local rest = math.fmod(product, denominator)
  local whole = (product - rest) / denominator
  if rest > 0 and (rounding == 'u' or (rounding == 'h' and 2 * rest >= denominator)) then
    whole = whole + 1
  end
  local amount = math.max(minimum, flat + whole)
  return amount <= AMOUNT_MAX and amount or nil
end
