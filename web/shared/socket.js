// A WebSocket to Hadir that comes back by the rules of docs/protocol.md, "Closing" and "Coming back".

import { stopwatch } from './time.js';
import { claims } from './token.js';

/** Longest wait between two attempts. */
const LONGEST_WAIT_MS = 60_000;
/** How long a server may take until its welcome. */
const GREETING_MS = 10_000;
/** Until a server has said otherwise. */
const DEFAULT_WINDOW_MS = 5_000;

/** What a close code asks of the client: `now`, `later`, `token` (a new one first) or `never`. */
export function afterClose(code) {
  if (code === 4401) return 'token';
  if (code >= 4500 && code <= 4999) return 'never';
  return code === 1012 ? 'now' : 'later';
}

/**
 * Keeps one socket. `on.frame(frame)` is called for each frame, in order; `on.state(state)` when the socket's own state
 * changes. `state.name` is one of
 * - `connecting`; `state.why` says what happened to the last socket, if there was one
 * - `open` (the welcome has come)
 * - `waiting`: until `state.until()` is 0; `state.why` says what happened
 * - `token`: a new token is needed; `state.why`
 * - `ended`: not to come back by itself; `state.why`
 * - `closed`: by this page
 */
export class LiveSocket {
  #path;
  #token;
  #on;
  #socket = null;
  #failures = 0;
  #retry = 0;
  #heard = () => 0;
  #opened = () => 0;
  #refreshes = 0;
  #offered = new Map();
  state = { name: 'closed' };
  welcome = null;

  constructor(path, on) {
    this.#path = path;
    this.#on = on;
    setInterval(() => this.#look(), 500);
    for (const event of ['pageshow', 'online']) addEventListener(event, () => this.#wake());
    document.addEventListener('visibilitychange', () => this.#wake());
  }

  /** Dials with this token; an older socket is dropped. */
  open(token) {
    this.#token = token;
    this.#failures = 0;
    this.#dial();
  }

  /** Takes a new token: on the living socket when it is for the same subject and role, else with a new one. */
  renew(token) {
    const [old, next] = [claims(this.#token ?? ''), claims(token)];
    if (this.state.name !== 'open' || old?.sub !== next?.sub || old?.role !== next?.role) {
      this.open(token);
      return;
    }
    const id = `refresh-${++this.#refreshes}`;
    this.#offered.set(id, token);
    this.send({ type: 'refresh', id, token });
  }

  /** Tries again at once. */
  again() {
    if (this.state.name !== 'open' && this.#token) this.#dial();
  }

  close() {
    this.#let_go();
    this.#become({ name: 'closed' });
  }

  /** Sends a frame; false when there is no socket to send it on. */
  send(frame) {
    if (this.state.name !== 'open') return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  /** Milliseconds since anything came from the server. */
  silentFor() {
    return this.#heard();
  }

  #dial() {
    this.#let_go();
    this.#heard = stopwatch();
    this.#opened = stopwatch();
    this.#become({ name: 'connecting', why: this.state.why });
    const address = new URL(this.#path, location.href);
    address.protocol = address.protocol === 'https:' ? 'wss:' : 'ws:';
    let socket;
    try {
      socket = new WebSocket(address, ['hadir.v1', `hadir.bearer.${this.#token}`]);
    } catch {
      // What was pasted cannot even be written into a header.
      this.#become({ name: 'token', why: { code: 4401, reason: 'unauthorized' } });
      return;
    }
    this.#socket = socket;
    // A dropped socket may still speak: only the one at hand is listened to.
    socket.onmessage = ({ data }) => this.#socket === socket && this.#take(data);
    socket.onclose = ({ code, reason }) => this.#socket === socket && this.#lost({ code, reason });
  }

  #take(data) {
    this.#heard = stopwatch();
    const frame = JSON.parse(data);
    if (frame.type === 'welcome') {
      this.welcome = frame;
      this.#become({ name: 'open' });
    }
    const offered = this.#offered.get(frame.id);
    if (offered) {
      this.#offered.delete(frame.id);
      if (frame.type === 'ack') this.#token = offered;
    }
    this.#on.frame(frame);
  }

  #lost(why) {
    const lived = this.state.name === 'open' && this.#opened() > this.#window();
    this.#let_go();
    if (lived) this.#failures = 0;
    switch (afterClose(why.code)) {
      case 'token':
        this.#become({ name: 'token', why });
        break;
      case 'never':
        this.#become({ name: 'ended', why });
        break;
      case 'now':
        this.#wait(0, why);
        break;
      default:
        this.#wait(Math.random() * Math.min(this.#window() * 2 ** this.#failures, LONGEST_WAIT_MS), why);
    }
  }

  #wait(ms, why) {
    this.#failures += 1;
    const waited = stopwatch();
    this.#retry = setTimeout(() => this.#dial(), ms);
    this.#become({ name: 'waiting', why, until: () => Math.max(0, ms - waited()) });
  }

  #window() {
    return this.welcome?.reconnect_window_ms ?? DEFAULT_WINDOW_MS;
  }

  /** Forgets the socket at once: closing one whose network is gone can take minutes. */
  #let_go() {
    clearTimeout(this.#retry);
    this.#offered.clear();
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #look() {
    if (this.state.name === 'connecting' && this.#heard() > GREETING_MS) this.#lost({ code: 0, reason: 'no answer' });
    if (this.state.name === 'open' && this.#heard() > this.welcome.max_silence_ms) this.#lost({ code: 0, reason: 'silence' });
  }

  /** Timers stand still in a sleeping computer or a hidden page. */
  #wake() {
    if (document.visibilityState === 'hidden') return;
    this.#look();
    if (this.state.name === 'waiting') this.again();
  }

  #become(state) {
    this.state = state;
    this.#on.state(state);
  }
}
