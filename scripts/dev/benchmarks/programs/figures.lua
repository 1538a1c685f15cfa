-- What the measuring scripts share: latencies kept as a histogram, and results as one line of JSON.
local M = {}

-- Buckets 1 % wide: exact enough for a percentile, and a long run needs no more memory than a short one.
local WIDTH = math.log(1.01)

function M.latencies()
  local counts, total = {}, 0
  local self = {}

  function self.record(seconds)
    local bucket = math.floor(math.log(seconds > 1e-9 and seconds or 1e-9) / WIDTH)
    counts[bucket] = (counts[bucket] or 0) + 1
    total = total + 1
  end

  function self.clear()
    counts, total = {}, 0
  end

  function self.total()
    return total
  end

  -- The latency in microseconds below which `share` (0 to 1) of the messages lie.
  function self.percentile(share)
    local buckets = {}
    for bucket in pairs(counts) do buckets[#buckets + 1] = bucket end
    table.sort(buckets)
    local seen = 0
    for _, bucket in ipairs(buckets) do
      seen = seen + counts[bucket]
      if seen > share * total or seen == total then return math.exp((bucket + 0.5) * WIDTH) * 1e6 end
    end
    return 0
  end

  return self
end

-- Prints a flat table of numbers as a line of JSON, keys in order.
function M.report(values)
  local keys, words = {}, {}
  for key in pairs(values) do keys[#keys + 1] = key end
  table.sort(keys)
  for _, key in ipairs(keys) do words[#words + 1] = ("%q:%s"):format(key, ("%.10g"):format(values[key])) end
  io.write("{", table.concat(words, ","), "}\n")
  io.flush()
end

return M
