// What a run is told, by environment (`k6 run -e NAME=value …`). Every scenario reads its settings here.

function text(name, fallback) {
  const value = __ENV[name];
  if (value !== undefined && value !== '') return value;
  if (fallback === undefined) throw new Error(`${name} is not set: k6 run -e ${name}=… (loadtest/README.md lists them)`);
  return fallback;
}

function number(name, fallback) {
  const value = Number(text(name, String(fallback)));
  if (!Number.isFinite(value) || value < 0) throw new Error(`${name} is not a number from 0`);
  return value;
}

export const PUBLIC_URL = text('HADIR_PUBLIC_URL', 'http://127.0.0.1:8080');
export const INTERNAL_URL = text('HADIR_INTERNAL_URL', 'http://127.0.0.1:8081');
// The secret that the server was started with; tokens are minted from it.
export const SECRET = text('AUTH_JWT_SECRET');

export const MITRAS = number('MITRAS', 200);
export const CUSTOMERS = number('CUSTOMERS', 1000);
export const DASHBOARDS = number('DASHBOARDS', 5);
export const SOCKETS_PER_VU = Math.max(1, number('SOCKETS_PER_VU', 50));
export const SECONDS = number('SECONDS', 60);
// Cadence of a mitra's pings.
export const BEAT_SECONDS = number('BEAT_SECONDS', 15);
// How long a mitra stays online or offline, on average.
export const SHIFT_SECONDS = number('SHIFT_SECONDS', 20);
// Requests a second of REST scenarios.
export const RATE = number('RATE', 500);
// Bound on the time from a change to a customer's frame; only a large one in the tests.
export const PUSH_P99_MS = number('PUSH_P99_MS', 1000);

export const wsUrl = (url) => url.replace(/^http/, 'ws');

// Scenario in which each virtual user opens its share of so many sockets once.
export function sockets(exec, count, more) {
  return {
    executor: 'per-vu-iterations',
    exec,
    vus: Math.ceil(count / SOCKETS_PER_VU),
    iterations: 1,
    maxDuration: `${Math.ceil(SECONDS + 60)}s`,
    ...more,
  };
}

// The numbers of this virtual user's sockets, of `count` in all.
export function share(vu, count) {
  const first = vu * SOCKETS_PER_VU;
  return Array.from({ length: Math.max(0, Math.min(SOCKETS_PER_VU, count - first)) }, (_, index) => first + index);
}
