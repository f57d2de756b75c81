// Mitras who come and go, and customers who watch: the main job.
//
//   k6 run -e AUTH_JWT_SECRET=… -e MITRAS=200 -e CUSTOMERS=1000 -e SECONDS=60 loadtest/k6/presence.js

import { CUSTOMERS, MITRAS, sockets } from './lib/settings.js';
import { ALWAYS, PUSH } from './lib/metrics.js';
import { createMitras } from './lib/rest.js';

export { customerWatch, mitraShift } from './lib/fleet.js';

export const options = {
  scenarios: {
    customers: sockets('customerWatch', CUSTOMERS),
    mitras: sockets('mitraShift', MITRAS),
  },
  thresholds: { ...ALWAYS, ...PUSH, hadir_acks: ['count>0'], hadir_pongs: ['count>0'] },
};

export function setup() {
  createMitras(MITRAS);
}
