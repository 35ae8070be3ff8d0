-- Requests of the corpus for wrk2 (and wrk). From the environment: KEY, CORPUS (a file written by `loadtest corpus`).
local EXPONENT = 0.9
local bodies, cumulated, sum = {}, {}, 0
local threads = 0

-- Each thread has its own order of requests.
function setup(thread)
  thread:set("seed", threads)
  threads = threads + 1
end

function init(_)
  math.randomseed(seed or 0)
  for line in io.lines(os.getenv("CORPUS") or "corpus.jsonl") do
    bodies[#bodies + 1] = line
    sum = sum + (#bodies) ^ -EXPONENT
    cumulated[#bodies] = sum
  end
  wrk.method = "POST"
  wrk.headers["content-type"] = "application/json"
  wrk.headers["authorization"] = "Bearer " .. (os.getenv("KEY") or "none")
end

local function rank()
  local point = math.random() * sum
  local low, high = 1, #bodies
  while low < high do
    local middle = math.floor((low + high) / 2)
    if cumulated[middle] > point then high = middle else low = middle + 1 end
  end
  return low
end

function request()
  return wrk.format(nil, "/v1/chat/completions", nil, bodies[rank()])
end

function done(summary, latency, _)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("requests %d, failed %d\n", summary.requests, failed))
  for _, percent in ipairs({ 50, 95, 99, 99.9 }) do
    io.write(string.format("p%g %.3f ms\n", percent, latency:percentile(percent) / 1000))
  end
end
