// A reconnect storm: everybody watches, all sockets go at once, and all come back within the window that the server names
// in `welcome`, each at a moment of its own. Three times.

import { check } from 'k6';
import { scenario } from 'k6/execution';
import { CUSTOMERS, SECONDS, share, sockets } from './lib/settings.js';
import { ALWAYS } from './lib/metrics.js';
import { Customer, whenOpen } from './lib/sockets.js';

const WAVES = 3;

export const options = {
  scenarios: { customers: sockets('customerStorm', CUSTOMERS) },
  thresholds: { ...ALWAYS, hadir_sockets_opened: [`count==${CUSTOMERS * (WAVES + 1)}`] },
};

export function customerStorm() {
  const began = Date.now();
  share(scenario.iterationInTest, CUSTOMERS).forEach((number) => watch(number, began, 0));
}

function watch(number, began, wave) {
  const customer = new Customer('customer', number);
  // The storm breaks at the same moment for all: it is counted from the beginning, not from when each came back.
  const breaks = began + ((wave + 1) * SECONDS * 1000) / (WAVES + 1);
  whenOpen(customer, () =>
    customer.after((breaks - Date.now()) / 1000, () => {
      const window = customer.welcome.reconnect_window_ms;
      check(window, { 'the server names a window': () => window > 0 });
      customer.leave();
      if (wave < WAVES) {
        // A wave is shorter than the window when the run is short.
        const within = Math.min(window, (SECONDS * 1000) / (WAVES + 1) / 2);
        setTimeout(() => watch(number, began, wave + 1), Math.random() * within);
      }
    }),
  );
}
