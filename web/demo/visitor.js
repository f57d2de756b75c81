// What the mitra's and the customer's page share: the token's door, the socket, the alarm.

import { el, mark, say, sayWhenBroken, showIcon, TokenForm } from '../shared/page.js';
import { LiveSocket } from '../shared/socket.js';
import { ServerClock } from '../shared/time.js';
import { complaint, TokenKeeper } from '../shared/token.js';

const LOOK_EVERY_MS = 250;

const ENDS = {
  deactivated: 'This mitra was deactivated by staff.',
  unknown_mitra: 'The server knows no mitra with this token’s id.',
  forbidden: 'The server does not let this token in here.',
  replaced: 'Another of this mitra’s connections took this one’s place.',
  revoked: 'The sign-in behind this token was revoked.',
};

/** A page of one role. `page.took(frame)` is called for each frame; `page.look(state)` after it, and by the clock. */
export class Visitor {
  server = new ServerClock();
  #role;
  #page;
  #keeper;
  #door;
  #beats = 0;
  #expiring = false;
  #broken = null;
  socket;

  constructor(role, path, page) {
    this.#role = role;
    this.#page = page;
    this.#keeper = new TokenKeeper(role);
    this.#door = new TokenForm(el('door-form'), role, (token) => this.#enter(token));
    this.socket = new LiveSocket(`../${path}`, { frame: (frame) => this.#took(frame), state: (state) => this.#became(state) });
    sayWhenBroken((text) => {
      this.#broken = text;
      this.#look();
    });
    el('again').addEventListener('click', () => this.socket.again());
    this.#keeper.onFragment((token) => this.#enter(token));
    setInterval(() => this.#look(), LOOK_EVERY_MS);
    // After the page's own module has run to its end.
    queueMicrotask(() => {
      const token = this.#keeper.takeFromFragment() ?? this.#keeper.get();
      if (token) this.socket.open(token);
      else this.#ask(null);
    });
  }

  /** The sign that something was heard. */
  pulse() {
    this.#beats += 1;
    mark(el('pulse'), 'beat', this.#beats % 2);
  }

  maxSilence() {
    return this.socket.welcome?.max_silence_ms ?? Infinity;
  }

  heardLately() {
    return this.socket.silentFor() <= this.maxSilence();
  }

  /** The tab's icon and title. */
  name(icon, title) {
    showIcon(icon);
    if (document.title !== title) document.title = title;
  }

  /** Back from wherever the page itself had sent the socket. */
  reopen() {
    this.socket.open(this.#keeper.get());
  }

  #enter(token) {
    this.#keeper.keep(token);
    this.#door.complain(null);
    this.socket.renew(token);
  }

  #took(frame) {
    if (frame.type === 'welcome') {
      this.server.hear(frame.server_time);
      this.#expiring = false;
    }
    if (frame.type === 'error' && frame.code === 'token_expiring') {
      this.#expiring = true;
      this.#ask(null);
    }
    if (frame.type === 'ack' && this.#expiring && frame.id?.startsWith('refresh-')) {
      this.#expiring = false;
      el('door').hidden = true;
    }
    this.#page.took(frame);
    this.#look();
  }

  #became(state) {
    if (state.name === 'open') el('door').hidden = true;
    if (state.name === 'token') {
      const unknown = 'The server does not know this token: it was signed with another secret, or it has ended. Paste a new one.';
      const said = complaint(this.#keeper.get() ?? '', this.#role) ?? unknown;
      this.#ask(state.why.reason === 'token_expired' ? 'The token has ended. Paste a new one to go on.' : said);
    }
    if (state.name === 'ended' && state.why.code !== 4502) this.#ask(complaint(this.#keeper.get() ?? '', this.#role));
    this.#look();
  }

  #ask(wrong) {
    el('door').hidden = false;
    this.#door.complain(wrong);
  }

  #look() {
    const { state } = this.socket;
    if (state.name !== 'open') document.body.setAttribute('data-old', '');
    const [text, more, again] = this.#trouble(state);
    el('alarm').hidden = !text;
    mark(el('alarm'), 'kind', this.#expiring && state.name === 'open' && !this.#broken ? 'note' : 'loud');
    say(el('alarm-text'), text ?? '');
    say(el('alarm-more'), more ?? '');
    el('again').hidden = !again;
    this.#page.look(state);
  }

  #trouble(state) {
    if (this.#broken) return [this.#broken];
    switch (state.name) {
      case 'waiting': {
        const seconds = Math.ceil(state.until() / 1000);
        return ['The connection is lost.', `Trying again ${seconds > 0 ? `in ${seconds} s` : 'now'}.`, true];
      }
      case 'connecting':
        return state.why ? ['The connection is lost.', 'Trying now.'] : [];
      case 'ended':
        return [ENDS[state.why.reason] ?? `The connection was closed (${state.why.reason || state.why.code}).`, 'This page does not come back by itself.', true];
      case 'open':
        return this.#expiring ? ['The token is about to end.', 'Paste a new one to stay.'] : [];
      default:
        return [];
    }
  }
}
