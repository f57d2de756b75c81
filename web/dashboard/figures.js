// The counts in figures, and the roll: a dot for each mitra that is online.

import { el, make, mark, say } from '../shared/page.js';

const FIGURES = [
  ['online', 'Online', 'has come and not left'],
  ['reachable', 'Reachable', 'online and heard lately'],
  ['busy', 'Busy', 'reachable, no room', 'busy'],
  ['suspect', 'Suspect', 'online, not heard', 'suspect'],
  ['deactivated', 'Deactivated', 'by staff'],
  ['active_sessions', 'Active sessions', 'being served'],
  ['pending_payment_sessions', 'Pending', 'waiting for payment'],
];

const ROLES = [
  ['mitra', 'Mitras'],
  ['customer', 'Customers'],
  ['dashboard', 'Dashboards'],
];

/** More dots than this are not counted by an eye. */
const MOST_DOTS = 240;
const SCALES = [1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 2000, 5000, 10_000];
const NUMBER = new Intl.NumberFormat('en');

export const number = (n) => NUMBER.format(n);

/** What the counts mean to somebody who waits; in the past tense when they may no longer be true. */
export function headline(counts, old) {
  const is = old ? 'was' : 'is';
  if (counts.available > 0) return `Somebody ${is} here.`;
  if (counts.busy > 0) return `Everybody ${is} busy.`;
  if (counts.suspect > 0) return `Nobody ${old ? 'could' : 'can'} be reached.`;
  return `Nobody ${is} here.`;
}

export class Figures {
  #values = new Map();
  #bars = new Map();

  constructor() {
    for (const [key, label, hint, glyph] of FIGURES) {
      const value = make('dd', { text: '–', id: `count-${key}` });
      const name = make('dt', {}, glyph ? make('i', { class: `dot ${glyph}`, 'aria-hidden': 'true' }) : '', label);
      el('figures').append(make('div', {}, name, value, make('dd', { class: 'hint', text: hint })));
      this.#values.set(key, value);
    }
    for (const [role, label] of ROLES) {
      const value = make('dd', { text: '–', id: `sockets-${role}` });
      const bar = make('i', { 'aria-hidden': 'true' });
      el('sockets').append(make('div', {}, make('dt', { text: label }), value, bar));
      this.#bars.set(role, { value, bar });
    }
  }

  show({ counts, sockets }) {
    say(el('available'), number(counts.available));
    mark(el('available'), 'any', counts.available > 0);
    for (const [key, value] of this.#values) {
      say(value, number(counts[key]));
      mark(value, 'zero', counts[key] === 0);
    }
    mark(this.#values.get('suspect'), 'warn', counts.suspect > 0);
    this.#showRoll(counts);
    const most = Math.max(1, ...Object.values(sockets));
    let total = 0;
    for (const [role, { value, bar }] of this.#bars) {
      say(value, number(sockets[role]));
      bar.style.setProperty('--part', sockets[role] / most);
      total += sockets[role];
    }
    say(el('sockets-total'), `${number(total)} open`);
  }

  #showRoll({ available, busy, suspect }) {
    const all = available + busy + suspect;
    const each = SCALES.find((scale) => all / scale <= MOST_DOTS) ?? Math.ceil(all / MOST_DOTS);
    // Whoever exists has at least one dot.
    const dots = [['available', available], ['busy', busy], ['suspect', suspect]];
    const kinds = dots.flatMap(([kind, n]) => Array(n === 0 ? 0 : Math.max(1, Math.round(n / each))).fill(kind));
    const roll = el('roll');
    mark(roll, 'size', kinds.length <= 36 ? 'large' : kinds.length <= 110 ? 'medium' : 'small');
    while (roll.childElementCount < kinds.length) roll.append(make('i', { class: 'dot' }));
    while (roll.childElementCount > kinds.length) roll.lastElementChild.remove();
    kinds.forEach((kind, n) => {
      const wanted = `dot ${kind}`;
      if (roll.children[n].className !== wanted) roll.children[n].className = wanted;
    });
    const empty = 'No mitra is online. The first one appears here as a dot.';
    say(el('roll-caption'), all === 0 ? empty : each === 1 ? 'Each dot is a mitra who is online.' : `Each dot is ${number(each)} mitras who are online.`);
  }
}
