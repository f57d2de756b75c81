// The sweeps of the answering node: when each last ran, what came of it, and a button to let it rest.

import { el, make, mark, say } from '../shared/page.js';
import { clock, span } from '../shared/time.js';
import { keepRows } from './table.js';

const LOOK_EVERY_MS = 5_000;

const PURPOSES = {
  auto_offline: 'takes long-silent mitras offline',
  heartbeat_mirror: 'writes heartbeats to the store',
  reseed: 'heals the mirror from the store',
  event_retention: 'drops old presence events',
};

export class Sweeps {
  #rest;
  #now;
  #active = false;
  #newest = 0;

  /** `now()` is the server's clock. */
  constructor(rest, now) {
    this.#rest = rest;
    this.#now = now;
    setInterval(() => this.#active && document.visibilityState === 'visible' && this.look(), LOOK_EVERY_MS);
  }

  /** Looks at once, and again and again while `active`. */
  run(active) {
    if (active && !this.#active) this.look();
    this.#active = active;
  }

  look() {
    return this.#ask(() => this.#rest.get('internal/sweeps'));
  }

  async #ask(question) {
    const turn = ++this.#newest;
    try {
      const { sweeps } = await question();
      say(el('sweeps-wrong'), '');
      if (turn === this.#newest) this.#show(sweeps);
    } catch (error) {
      say(el('sweeps-wrong'), `Sweeps: ${error.message}`);
    }
  }

  #show(sweeps) {
    keepRows(el('sweeps'), sweeps, (sweep) => sweep.name, (name) => this.#row(name), (row, sweep) => {
      const [, every, last, result, action] = row.cells;
      say(every, span(sweep.interval_ms));
      say(last, sweep.last ? `${span(Math.max(0, this.#now() - Date.parse(sweep.last.started_at)))} ago` : 'not yet');
      last.title = sweep.last ? `${clock(sweep.last.started_at)}, took ${sweep.last.duration_ms} ms, run ${sweep.runs}` : '';
      const paused = sweep.paused_until !== null;
      const [badge, detail] = result.firstElementChild.children;
      say(badge, paused ? 'paused' : (sweep.last?.result ?? 'waiting'));
      mark(badge, 'level', paused ? 'uneasy' : { ok: 'good', failed: 'bad', skipped: 'uneasy' }[sweep.last?.result] ?? 'none');
      say(detail, paused ? `until ${clock(sweep.paused_until)}` : (sweep.last?.detail ?? 'its first run is to come'));
      const button = action.firstElementChild;
      button.hidden = this.#rest.readOnly;
      say(button, paused ? 'Resume' : 'Pause');
      mark(button, 'does', paused ? 'resume' : 'pause');
      button.setAttribute('aria-label', `${paused ? 'Resume' : 'Pause'} ${sweep.name}`);
    });
  }

  #row(name) {
    const button = make('button', { type: 'button' });
    button.addEventListener('click', async () => {
      button.disabled = true;
      const path = `internal/sweeps/${name}/${button.dataset.does}`;
      const seconds = Number(el('pause-for').value);
      await this.#ask(() => this.#rest.post(path, button.dataset.does === 'pause' ? { seconds } : undefined));
      button.disabled = false;
    });
    return make('tr', {},
      make('th', { scope: 'row' }, make('b', { text: name.replaceAll('_', ' ') }), make('small', { text: PURPOSES[name] ?? '' })),
      make('td', { class: 'every' }),
      make('td', { class: 'last' }),
      make('td', {}, make('span', { class: 'result' }, make('span', { class: 'badge' }), make('small'))),
      make('td', { class: 'action' }, button));
  }
}
