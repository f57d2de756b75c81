// Time as pages need it: elapsed time that neither sleep nor a corrected clock can hide, the server's clock, and words.

/** Starts a stopwatch; the answer, when called, is the milliseconds since. The larger of two clocks: one may stand still
 * while the computer sleeps, the other may be set back. */
export function stopwatch() {
  const wall = Date.now();
  const steady = performance.now();
  return () => Math.max(Date.now() - wall, performance.now() - steady);
}

/** The server's clock as far as frames tell: never earlier than any moment the server has named. */
export class ServerClock {
  #at = 0;
  #since = () => 0;

  /** A moment that the server has named, in its own words. */
  hear(text) {
    const at = Date.parse(text);
    if (at > this.now()) {
      this.#at = at;
      this.#since = stopwatch();
    }
  }

  now() {
    return this.#at + this.#since();
  }

  /** How long ago the server's moment was, in milliseconds. */
  age(text) {
    return Math.max(0, this.now() - Date.parse(text));
  }
}

const UNITS = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['min', 60_000],
  ['s', 1_000],
];

/** A span of time in its two largest units: "12 s", "3 min 5 s", "2 h". */
export function span(ms) {
  if (ms < 1000) return ms < 950 ? `${Math.round(ms / 100) / 10} s` : '1 s';
  const parts = [];
  let left = Math.round(ms / 1000) * 1000;
  for (const [unit, size] of UNITS) {
    const n = Math.floor(left / size);
    left -= n * size;
    if (n > 0) parts.push(`${n} ${unit}`);
    else if (parts.length > 0) break;
    if (parts.length === 2) break;
  }
  return parts.join(' ');
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
const DAY = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });

const MINUTE = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });

/** Hour and minute here. */
export const hourAndMinute = (moment) => MINUTE.format(new Date(moment));

/** The time of day here; with the day when it was not today. */
export function clock(moment) {
  const at = new Date(moment);
  const today = at.toDateString() === new Date().toDateString();
  return today ? CLOCK.format(at) : `${DAY.format(at)}, ${CLOCK.format(at)}`;
}
