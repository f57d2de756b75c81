// A mixed day in small: mitras on shift, customers who come and stay a while, pages that poll, dashboards, and a backend that
// looks for mitras and asks whether each can be reached.
//
//   k6 run -e AUTH_JWT_SECRET=… -e MITRAS=500 -e CUSTOMERS=5000 -e SECONDS=600 loadtest/k6/day.js

import http from 'k6/http';
import { check } from 'k6';
import { CUSTOMERS, DASHBOARDS, INTERNAL_URL, MITRAS, RATE, SECONDS, sockets } from './lib/settings.js';
import { ALWAYS, PUSH } from './lib/metrics.js';
import { createMitras } from './lib/rest.js';
import { Customer, whenOpen } from './lib/sockets.js';
import { bearer, id } from './lib/tokens.js';
import beacon from './beacon.js';

export { mitraShift } from './lib/fleet.js';
export { dashboardWatch } from './dashboards.js';

// How long a customer stays.
const VISIT_SECONDS = Math.min(20, SECONDS / 4);

export const options = {
  scenarios: {
    mitras: sockets('mitraShift', MITRAS),
    dashboards: sockets('dashboardWatch', DASHBOARDS),
    // Few in the morning, all at noon, few in the evening. A visit is over before the next of the same user begins.
    visits: {
      executor: 'ramping-vus',
      exec: 'visit',
      startVUs: 0,
      stages: [
        { duration: `${SECONDS * 0.3}s`, target: CUSTOMERS },
        { duration: `${SECONDS * 0.4}s`, target: CUSTOMERS },
        { duration: `${SECONDS * 0.3}s`, target: 0 },
      ],
      gracefulRampDown: `${VISIT_SECONDS * 2 + 5}s`,
      gracefulStop: `${VISIT_SECONDS * 2 + 5}s`,
    },
    pages: arrivals('page', RATE / 4),
    backend: arrivals('pair', RATE / 20),
  },
  thresholds: { ...ALWAYS, ...PUSH, http_req_failed: ['rate==0'] },
};

function arrivals(exec, rate) {
  return {
    executor: 'constant-arrival-rate',
    exec,
    rate: Math.max(1, Math.round(rate)),
    duration: `${SECONDS}s`,
    preAllocatedVUs: 20,
    maxVUs: 200,
  };
}

export function setup() {
  createMitras(MITRAS);
}

export function visit() {
  const customer = new Customer('customer', __VU);
  whenOpen(customer, () => customer.after(VISIT_SECONDS * (0.5 + Math.random()), () => customer.leave()));
}

export function page() {
  beacon();
}

export function pair() {
  const headers = bearer('service');
  const url = `${INTERNAL_URL}/internal/mitras/available?limit=5`;
  const found = http.get(url, { headers, tags: { name: 'GET /internal/mitras/available' } });
  check(found, { 'the available are named': () => found.status === 200 && Array.isArray(found.json('mitras')) });
  const mitras = found.json('mitras');
  const asked = mitras.length > 0 ? mitras[0].mitra_id : id('mitra', 0);
  const reachable = http.get(`${INTERNAL_URL}/internal/mitras/${asked}/reachable`, {
    headers,
    tags: { name: 'GET /internal/mitras/{id}/reachable' },
  });
  check(reachable, { 'whether one can be reached is said': () => reachable.status === 200 });
}
