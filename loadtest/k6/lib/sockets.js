// One socket of a mitra, a customer or a dashboard, with what must hold on it.

import { check } from 'k6';
import { WebSocket } from 'k6/websockets';
import { INTERNAL_URL, PUBLIC_URL, wsUrl } from './settings.js';
import { id, token } from './tokens.js';
import * as metrics from './metrics.js';

const PATHS = {
  mitra: wsUrl(PUBLIC_URL) + '/ws/mitra',
  customer: wsUrl(PUBLIC_URL) + '/ws/availability',
  dashboard: wsUrl(INTERNAL_URL) + '/ws/dashboard',
};

class Socket {
  constructor(role, number) {
    this.role = role;
    this.number = number;
    this.heard = 0;
    this.ended = false;
    this.timers = [];
    const params = { headers: { Authorization: `Bearer ${token(role, id(role, number))}` }, tags: { name: role } };
    const dialled = Date.now();
    this.ws = new WebSocket(PATHS[role], ['hadir.v1'], params);
    this.ws.onopen = () => metrics.opened.add(1, { role });
    this.ws.onmessage = (message) => {
      metrics.frames.add(1, { role });
      const frame = JSON.parse(message.data);
      if (this.heard === 0) {
        check(frame, { 'the first frame is `welcome`': () => frame.type === 'welcome' });
        this.welcome = frame;
      } else if (this.heard === 1) {
        check(frame, { 'the second frame says how things are': () => frame.type === this.subject });
        metrics.first.add(Date.now() - dialled, { role });
      }
      this.heard += 1;
      if (frame.type === 'error') metrics.errors.add(1, { role, code: frame.code });
      this.hear(frame);
    };
    // A handshake that is refused comes here, too; k6 hands on no status.
    this.ws.onerror = (event) => this.end(event.error);
    this.ws.onclose = (event) => this.end(`closed ${event.code}`);
  }

  end(why) {
    this.timers.forEach(clearTimeout);
    this.timers = [];
    if (!this.ended) {
      metrics.lost.add(1, { role: this.role });
      console.warn(`a ${this.role}'s socket was lost: ${why}`);
    }
    this.ended = true;
  }

  after(seconds, work) {
    this.timers.push(setTimeout(() => this.ended || work(), Math.max(1, seconds * 1000)));
  }

  // Each `seconds` from now on; the first time at a moment of its own.
  every(seconds, work) {
    const again = () => {
      work();
      this.after(seconds, again);
    };
    this.after(Math.random() * seconds, again);
  }

  leave() {
    if (this.ended) return;
    check(this, { 'it heard its first frames': () => this.heard >= 2 });
    this.ended = true;
    this.ws.close(1000);
  }
}

export class Customer extends Socket {
  subject = 'availability';
  newest = null;

  hear(frame) {
    if (frame.type !== 'availability') return;
    check(frame, { '`any` is what `available` says': () => frame.any === frame.available > 0 });
    const before = this.newest;
    if (before && before.epoch === frame.epoch) {
      if (frame.version < before.version) metrics.disorder.add(1);
      if (frame.version > before.version) {
        metrics.changes.add(1);
        metrics.push.add(Math.max(0, Date.now() - Date.parse(frame.as_of)));
      }
    }
    this.newest = frame;
  }
}

export class Dashboard extends Socket {
  subject = 'dashboard';
  newest = null;

  hear(frame) {
    if (frame.type === 'history') {
      check(frame, { 'history is in order': () => frame.points.every((p, i) => i === 0 || p.at > frame.points[i - 1].at) });
    }
    if (frame.type !== 'dashboard') return;
    const { online, reachable, available, busy, suspect } = frame.counts;
    check(frame, {
      'reachable are available or busy': () => reachable === available + busy,
      'online are reachable or suspect': () => online >= reachable && suspect >= 0,
    });
    this.newest = frame;
  }
}

export class Mitra extends Socket {
  subject = 'status';
  status = null;
  asked = new Map();
  next = 0;

  hear(frame) {
    if (frame.type === 'status') {
      if (this.status && frame.revision < this.status.revision) metrics.disorder.add(1);
      this.status = frame;
    } else if (frame.type === 'ack') {
      const { at, done } = this.asked.get(frame.id) || {};
      check(frame, { 'an `ack` answers a command': () => at !== undefined });
      this.asked.delete(frame.id);
      metrics.ack.add(Date.now() - at);
      metrics.acks.add(1);
      if (done) done();
    } else if (frame.type === 'pong') {
      metrics.pong.add(Date.now() - this.pinged);
      metrics.pongs.add(1);
    }
  }

  ping() {
    this.pinged = Date.now();
    this.ws.send('{"type":"ping"}');
  }

  // `online` or `offline`; `done` when it is acknowledged.
  command(type, done) {
    const name = `c${this.next}`;
    this.next += 1;
    this.asked.set(name, { at: Date.now(), done });
    this.ws.send(JSON.stringify({ type, id: name }));
  }

  leave() {
    if (!this.ended) check(this, { 'every command was answered': () => this.asked.size === 0 });
    super.leave();
  }
}

// Calls `work` once the socket is open.
export function whenOpen(socket, work) {
  socket.ws.addEventListener('open', work);
  return socket;
}
