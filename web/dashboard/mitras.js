// The list of mitras as an operator searches it.

import { el, make, mark, say } from '../shared/page.js';
import { clock, span } from '../shared/time.js';
import { explain } from './explanation.js';
import { keepRows } from './table.js';

const LOOK_EVERY_MS = 5_000;
const TYPING_MS = 250;
const PAGE = 12;

/** The one word for a mitra's state. */
export function stateOf(mitra) {
  if (!mitra.active) return 'deactivated';
  if (!mitra.online) return 'offline';
  if (!mitra.reachable) return 'suspect';
  return mitra.available ? 'available' : 'busy';
}

export class Mitras {
  #rest;
  #active = false;
  #pages = 1;
  #newest = 0;
  #typing = 0;

  constructor(rest) {
    this.#rest = rest;
    const anew = () => {
      this.#pages = 1;
      this.look();
    };
    el('mitras-filter').addEventListener('submit', (event) => {
      event.preventDefault();
      anew();
    });
    el('mitras-state').addEventListener('change', anew);
    el('mitras-search').addEventListener('input', () => {
      clearTimeout(this.#typing);
      this.#typing = setTimeout(anew, TYPING_MS);
    });
    el('mitras-more').addEventListener('click', () => {
      this.#pages += 1;
      this.look();
    });
    setInterval(() => this.#active && document.visibilityState === 'visible' && this.look(), LOOK_EVERY_MS);
  }

  run(active) {
    if (active && !this.#active) this.look();
    this.#active = active;
  }

  async look() {
    const turn = ++this.#newest;
    try {
      const found = [];
      let answer = null;
      for (let page = 0; page < this.#pages && (!answer || answer.next_cursor); page += 1) {
        answer = await this.#rest.get(`internal/mitras?${this.#query(answer?.next_cursor)}`);
        if (turn !== this.#newest) return;
        found.push(...answer.mitras);
      }
      say(el('mitras-wrong'), '');
      this.#show(found, answer);
    } catch (error) {
      if (turn === this.#newest) say(el('mitras-wrong'), `Mitras: ${error.message}`);
    }
  }

  #query(cursor) {
    const asked = { state: el('mitras-state').value, search: el('mitras-search').value.trim(), cursor: cursor ?? '', limit: String(PAGE) };
    return new URLSearchParams(Object.entries(asked).filter(([, value]) => value !== ''));
  }

  #show(mitras, { next_cursor, as_of, stale }) {
    keepRows(el('mitras'), mitras, (mitra) => mitra.mitra_id, (id) => this.#row(id), (row, mitra) => {
      const [name, state, sessions, heartbeat] = row.cells;
      say(name.firstElementChild, mitra.display_name || mitra.mitra_id);
      const word = stateOf(mitra);
      const [dot, text] = state.firstElementChild.children;
      if (dot.className !== `dot ${word}`) dot.className = `dot ${word}`;
      say(text, word);
      say(sessions, `${mitra.sessions} of ${mitra.max_sessions}`);
      say(heartbeat, mitra.heartbeat_age_ms === null ? '–' : `${span(mitra.heartbeat_age_ms)} ago`);
    });
    const some = `${next_cursor ? 'the first ' : ''}${mitras.length}, as of ${clock(as_of)}${stale ? ', stale' : ''}`;
    say(el('mitras-note'), mitras.length === 0 && !next_cursor ? 'none found' : some);
    mark(el('mitras-note'), 'count', mitras.length);
    el('mitras-more').hidden = next_cursor === null;
  }

  #row(id) {
    const button = make('button', { type: 'button', class: 'plain', 'aria-haspopup': 'dialog' });
    button.addEventListener('click', () => explain(this.#rest, id, button.textContent));
    return make('tr', {},
      make('th', { scope: 'row' }, button),
      make('td', {}, make('span', { class: 'state' }, make('i', { 'aria-hidden': 'true' }), make('span'))),
      make('td', { class: 'number sessions' }),
      make('td', { class: 'number' }));
  }
}
