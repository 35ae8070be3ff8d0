// Scenarios for k6: k6 run -e SCENARIO=baseline|sustained|spike|soak|cache [-e SHORT=1] k6.js
// From the environment: URL, KEY, CORPUS (a file written by `loadtest corpus`), RATE_SCALE.
import http from 'k6/http';
import { check } from 'k6';
import { Rate, Trend } from 'k6/metrics';
import { SharedArray } from 'k6/data';

const corpus = new SharedArray('corpus', () => open(__ENV.CORPUS).trim().split('\n'));
const SHORT = __ENV.SHORT === '1';
const SCALE = Number(__ENV.RATE_SCALE || 1);
const EXPONENT = 0.9;

const hits = new Rate('cache_hits');
const ofHits = new Trend('latency_of_hits', true);
const ofMisses = new Trend('latency_of_misses', true);

const long = (full, quick) => `${SHORT ? quick : full}s`;
const stage = (full, quick, target) => ({ duration: long(full, quick), target: Math.round(target * SCALE) });
const repeat = (count, stages) => Array.from({ length: count }, () => stages).flat();

const PLANS = {
  baseline: [1000, [stage(600, 20, 1000), stage(1200, 100, 20000)]],
  sustained: [100, [stage(60, 10, 10000), stage(14340, 110, 10000)]],
  spike: [1000, repeat(SHORT ? 2 : 12, [
    stage(120, 20, 1000), stage(10, 2, 20000), stage(60, 8, 20000), stage(10, 2, 1000), stage(100, 18, 1000)])],
  soak: [8000, repeat(SHORT ? 3 : 144, [stage(150, 15, 9600), stage(300, 30, 6400), stage(150, 15, 8000)])],
  cache: [2000, [stage(1800, 60, 2000)]],
};

const name = __ENV.SCENARIO || 'baseline';
if (!(name in PLANS)) throw new Error(`SCENARIO is one of ${Object.keys(PLANS).join(', ')}`);
const [startRate, stages] = PLANS[name];
const open_ = (exec, more) => ({
  executor: 'ramping-arrival-rate', timeUnit: '1s', startRate: Math.round(startRate * SCALE), stages, exec,
  preAllocatedVUs: 200, maxVUs: 5000, ...more,
});

export const options = {
  discardResponseBodies: true,
  scenarios: name === 'cache'
    ? { with_cache: open_('cached'), without_cache: open_('uncached', { startTime: long(1800, 60) }) }
    : { [name]: open_('cached') },
  thresholds: { http_req_failed: [{ threshold: 'rate<0.001', abortOnFail: false }] },
  summaryTrendStats: ['p(50)', 'p(95)', 'p(99)', 'max', 'count'],
};

// Sums of the weights, to draw a rank by bisection.
let sum = 0;
const cumulated = Float64Array.from({ length: corpus.length }, (_, rank) => (sum += (rank + 1) ** -EXPONENT));

function body() {
  const point = Math.random() * sum;
  let [low, high] = [0, cumulated.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (cumulated[middle] > point) high = middle; else low = middle + 1;
  }
  return corpus[low];
}

function ask(more) {
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${__ENV.KEY || 'none'}`, ...more };
  const answer = http.post(`${__ENV.URL}/v1/chat/completions`, body(), { headers });
  check(answer, { 'status is 200': (given) => given.status === 200 });
  const hit = answer.headers['X-Cache'] === 'HIT';
  hits.add(hit);
  (hit ? ofHits : ofMisses).add(answer.timings.duration);
}

export function cached() { ask({}); }
export function uncached() { ask({ 'cache-control': 'no-store' }); }
