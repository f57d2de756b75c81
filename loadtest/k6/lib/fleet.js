// What mitras and customers do all day.

import { scenario } from 'k6/execution';
import { BEAT_SECONDS, CUSTOMERS, MITRAS, SECONDS, SHIFT_SECONDS, share } from './settings.js';
import { Customer, Mitra, whenOpen } from './sockets.js';

// Mitras who go online, beat, take breaks and go offline in the end.
export function mitraShift() {
  share(scenario.iterationInTest, MITRAS).forEach((number) => {
    const mitra = new Mitra('mitra', number);
    const work = () => {
      if (Date.now() > ends) return;
      mitra.command('online', () => mitra.after(SHIFT_SECONDS * (0.5 + Math.random()), rest));
    };
    const rest = () => {
      if (Date.now() > ends) return;
      mitra.command('offline', () => mitra.after(SHIFT_SECONDS * Math.random() * 0.5, work));
    };
    const ends = Date.now() + (SECONDS - 2) * 1000;
    whenOpen(mitra, () => {
      mitra.after(Math.random(), work);
      mitra.every(BEAT_SECONDS, () => mitra.ping());
      mitra.after(SECONDS - 1, () => mitra.command('offline', () => mitra.leave()));
      // An `offline` that nobody answers is a command without an answer: `leave` says so.
      mitra.after(SECONDS + 5, () => mitra.leave());
    });
  });
}

// Customers who watch until the end.
export function customerWatch() {
  share(scenario.iterationInTest, CUSTOMERS).forEach((number) => {
    const customer = new Customer('customer', number);
    whenOpen(customer, () => customer.after(SECONDS, () => customer.leave()));
  });
}
