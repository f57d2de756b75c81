// The beacon by REST, for pages that hold no socket: a first look (200), then the same tag again (304, or 200 when it moved).
//
//   k6 run -e AUTH_JWT_SECRET=… -e RATE=2000 -e SECONDS=60 loadtest/k6/beacon.js

import http from 'k6/http';
import { check } from 'k6';
import { RATE, SECONDS, PUBLIC_URL } from './lib/settings.js';
import { ALWAYS } from './lib/metrics.js';
import { bearer } from './lib/tokens.js';

const { checks } = ALWAYS;
const URL = `${PUBLIC_URL}/api/client/availability`;
// 304 is an answer, not a failure.
http.setResponseCallback(http.expectedStatuses(200, 304));

export const options = {
  scenarios: {
    beacon: {
      executor: 'constant-arrival-rate',
      rate: Math.max(1, Math.round(RATE / 2)),
      duration: `${SECONDS}s`,
      preAllocatedVUs: 50,
      maxVUs: 500,
    },
  },
  thresholds: { checks, http_req_failed: ['rate==0'], 'http_reqs{look:again}': ['count>0'] },
};

let headers = null;

export default function () {
  headers = headers || bearer('customer', __VU);
  const looked = http.get(URL, { headers, tags: { name: 'beacon', look: 'first' } });
  check(looked, {
    'the first look is answered': () => looked.status === 200 && looked.headers.Etag !== undefined,
    '`any` is what `available` says': () => looked.json('any') === looked.json('available') > 0,
  });
  const tag = looked.headers.Etag;
  const again = http.get(URL, { headers: { ...headers, 'If-None-Match': tag }, tags: { name: 'beacon', look: 'again' } });
  check(again, { 'the same tag is not sent again': () => again.status === 304 || again.headers.Etag !== tag });
}
