-- POSTs the file in BENCH_BODY, or GETs without one, and prints one JSON line.
local body = os.getenv("BENCH_BODY")
if body then
  local file = assert(io.open(body, "rb"))
  wrk.method = "POST"
  wrk.body = file:read("*a")
  wrk.headers["Content-Type"] = "application/octet-stream"
  file:close()
end

-- Latencies and the duration are in microseconds.
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests_per_second":%.3f,"median":%.3f,"percentile_99":%.3f,"failures":%d}\n',
    summary.requests / summary.duration * 1e6,
    latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout
  ))
end
