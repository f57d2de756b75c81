// Dashboards beside a moving fleet: every frame adds up, and the counts by REST agree with it at rest.

import { DASHBOARDS, MITRAS, SECONDS, share, sockets } from './lib/settings.js';
import { check } from 'k6';
import { scenario } from 'k6/execution';
import { ALWAYS } from './lib/metrics.js';
import { counts, createMitras } from './lib/rest.js';
import { Dashboard, whenOpen } from './lib/sockets.js';

export { mitraShift } from './lib/fleet.js';

export const options = {
  scenarios: {
    dashboards: sockets('dashboardWatch', DASHBOARDS),
    mitras: sockets('mitraShift', MITRAS),
  },
  thresholds: ALWAYS,
};

export function setup() {
  createMitras(MITRAS);
}

export function dashboardWatch() {
  share(scenario.iterationInTest, DASHBOARDS).forEach((number) => {
    const dashboard = new Dashboard('dashboard', number);
    whenOpen(dashboard, () =>
      dashboard.after(SECONDS, () => {
        check(dashboard, { 'the dashboard counts its own socket': () => dashboard.newest.sockets.dashboard >= 1 });
        dashboard.leave();
      }),
    );
  });
}

export function teardown() {
  // Every mitra of the run went offline; what other people's mitras do is not known here.
  const { counts: now } = counts();
  check(now, { 'reachable are at most those online': () => now.reachable <= now.online });
}
