// A mitra with a button: online and offline, its own status, its heartbeats.

import { el, make, mark, say } from '../shared/page.js';
import { span, stopwatch } from '../shared/time.js';
import { Visitor } from './visitor.js';

/** Heartbeats asked for in one interval: one may be lost. */
const BEATS_PER_INTERVAL = 3;
const SHOWN_BEATS = 30;
const TUNNEL_MS = 20_000;

const visitor = new Visitor('mitra', 'ws/mitra', { took, look });
let status = null;
let refused = '';
let asked = false;
let commands = 0;
let beating = 0;
let sent = null;
let answered = null;
let tunnel = null;

function took(frame) {
  switch (frame.type) {
    case 'welcome':
      clearInterval(beating);
      beating = setInterval(beat, frame.heartbeat_interval_ms / BEATS_PER_INTERVAL);
      say(el('heartbeats-note'), `One every ${span(frame.heartbeat_interval_ms / BEATS_PER_INTERVAL)}; silent for ${span(frame.offline_after_ms)}, a mitra is taken offline.`);
      beat();
      break;
    case 'status':
      status = frame;
      el('board').hidden = false;
      visitor.pulse();
      break;
    case 'pong':
      if (sent) showBeat(sent());
      sent = null;
      visitor.pulse();
      break;
    case 'ack':
      asked = false;
      refused = '';
      break;
    case 'error':
      if (frame.id?.startsWith('switch-')) {
        asked = false;
        refused = frame.message;
      }
      break;
    default:
  }
}

function beat() {
  if (visitor.socket.send({ type: 'ping' })) sent = stopwatch();
}

function showBeat(ms) {
  answered = stopwatch();
  const list = el('heartbeats');
  list.append(make('li', { title: `answered in ${Math.round(ms)} ms` }));
  while (list.childElementCount > SHOWN_BEATS) list.firstElementChild.remove();
}

el('switch').addEventListener('click', () => {
  const type = status?.online ? 'offline' : 'online';
  asked = visitor.socket.send({ type, id: `switch-${++commands}` });
});

el('tunnel').addEventListener('click', () => {
  if (tunnel) {
    comeBack();
    return;
  }
  tunnel = stopwatch();
  visitor.socket.close();
});

function comeBack() {
  tunnel = null;
  visitor.reopen();
}

const REASONS = {
  auto_offline: 'The server took you offline: it had not heard you for too long.',
  deactivated: 'Staff changed this.',
  external: 'Somebody else changed this.',
  session: 'A session began or ended.',
};

function sentence() {
  if (!status.active) return 'You are deactivated.';
  if (!status.online) return 'You are offline.';
  return status.available ? 'You are available.' : 'You are busy.';
}

function detail() {
  if (refused) return `The server refused: ${refused}.`;
  if (tunnel) return status.online ? 'For everybody else you still are.' : 'Nobody misses you.';
  if (REASONS[status.reason]) return REASONS[status.reason];
  return status.online ? 'Customers can see that somebody is here.' : 'Customers do not count on you.';
}

function look(state) {
  if (tunnel && tunnel() >= TUNNEL_MS) comeBack();
  if (!status) return;
  const open = state.name === 'open';
  document.body.toggleAttribute('data-old', !open);
  mark(el('switch'), 'any', status.online && status.active);
  say(el('switch-text'), tunnel ? 'In a tunnel' : status.online ? 'Go offline' : 'Go online');
  el('switch').disabled = !open || asked || !status.active;
  say(el('sentence'), sentence());
  say(el('detail'), detail());
  say(el('sessions'), `${status.sessions} of ${status.max_sessions}`);
  say(el('reachable'), status.reachable ? 'yes' : 'no');
  say(el('revision'), String(status.revision));
  el('heartbeats').dataset.fresh = String(open && answered !== null && answered() < 10_000);
  const left = tunnel && Math.ceil((TUNNEL_MS - tunnel()) / 1000);
  say(el('tunnel'), tunnel ? `Come out now (${left} s)` : 'Lose the network');
  visitor.name(!open ? 'away' : status.online ? 'here' : 'nobody', `${sentence()} · hadir`);
}
