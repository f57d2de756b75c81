// The operator's page: joins the socket, the token and the parts of the page.

import { el, make, mark, sayWhenBroken, say, showIcon, TokenForm } from '../shared/page.js';
import { LiveSocket } from '../shared/socket.js';
import { clock, ServerClock, span } from '../shared/time.js';
import { claims, complaint, holder, TokenKeeper } from '../shared/token.js';
import { Chart } from './chart.js';
import { Figures, headline, number } from './figures.js';
import { judge, known, modes, source } from './health.js';
import { Mitras } from './mitras.js';
import { Rest } from './rest.js';
import { Sweeps } from './sweeps.js';
import { keepRows } from './table.js';

const ROLE = 'dashboard';
const LOOK_EVERY_MS = 250;
const DESCRIBE_EVERY_MS = 10_000;

let frame = null;
let leaving = false;
let broken = null;
let expiring = false;
let beats = 0;

sayWhenBroken((text) => {
  broken = text;
  look();
});

const keeper = new TokenKeeper(ROLE);
const server = new ServerClock();
const rest = new Rest(() => keeper.get());
const figures = new Figures();
const chart = new Chart(() => server.now());
const sweeps = new Sweeps(rest, () => server.now());
const mitras = new Mitras(rest);
const socket = new LiveSocket('ws/dashboard', { frame: took, state: became });
const door = new TokenForm(el('door-form'), ROLE, enter);

function enter(token) {
  keeper.keep(token);
  door.complain(null);
  socket.renew(token);
}

function took(message) {
  switch (message.type) {
    case 'welcome':
      server.hear(message.server_time);
      leaving = false;
      expiring = false;
      say(el('foot'), `Node ${message.node_id}, connection ${message.connection_id}`);
      break;
    case 'dashboard':
      server.hear(message.as_of);
      frame = message;
      show();
      break;
    case 'history':
      chart.history(message.points);
      break;
    case 'reconnect':
      leaving = true;
      break;
    case 'ack':
      expiring = false;
      el('door').hidden = true;
      break;
    case 'error':
      if (message.code === 'token_expiring') askBeforeTheEnd();
      else if (message.id) door.complain(`The server did not take this token: ${message.message}.`);
      break;
    default:
  }
  look();
}

function became(state) {
  const watching = state.name === 'open';
  sweeps.run(watching);
  mitras.run(watching);
  if (watching) el('door').hidden = true;
  if (state.name === 'token') ask(refusal(state.why));
  if (state.name === 'ended' && state.why.code === 4501) ask('The sign-in behind this token was revoked. Paste another token.');
  if (state.name === 'ended' && state.why.reason === 'forbidden') ask(complaint(keeper.get(), ROLE) ?? 'The server does not let this token watch.');
  look();
}

/** Why the server closed with 4401, as far as the page can tell. */
function refusal({ reason }) {
  if (reason === 'token_expired') return 'The token has ended. Paste a new one to go on.';
  const token = keeper.get();
  return (token && complaint(token, ROLE)) ?? 'The server does not know this token: it was signed with another secret, or it has ended. Paste a new one.';
}

function ask(wrong) {
  el('door').hidden = false;
  mark(el('door'), 'compact', frame !== null);
  say(el('door-title'), 'Who is here?');
  door.complain(wrong);
}

function askBeforeTheEnd() {
  expiring = true;
  ask(null);
}

function show() {
  beats += 1;
  mark(el('pulse'), 'beat', beats % 2);
  el('board').hidden = false;
  figures.show(frame);
  chart.add(frame);
  say(el('nodes-total'), known(frame.nodes.length, frame.nodes_as_of && server.age(frame.nodes_as_of)));
  keepRows(el('nodes'), frame.nodes, (node) => node.node_id, nodeRow, (row, node) => {
    const [, mode, sockets, seen] = row.cells;
    say(mode.firstElementChild, node.mode);
    mark(mode.firstElementChild, 'level', { live: 'good', stale: 'bad' }[node.mode] ?? 'uneasy');
    say(sockets, number(node.sockets));
    say(seen, node.seen_ms < 1000 ? 'now' : `${span(node.seen_ms)} ago`);
  });
}

function nodeRow(id) {
  return make('tr', {}, make('th', { scope: 'row', text: id }), make('td', {}, make('span', { class: 'badge' })), make('td', { class: 'number' }), make('td', { class: 'number' }));
}

/** Judges anew whether what is shown may be believed. Runs by the clock, not only at news: silence brings no event. */
function look() {
  const age = frame ? server.age(frame.as_of) : 0;
  const verdict = judge({ state: socket.state, frame, silentFor: socket.silentFor(), maxSilence: socket.welcome?.max_silence_ms ?? Infinity, age, leaving });
  if (broken) Object.assign(verdict, { link: 'Broken', level: 'bad', old: true, alarm: broken, more: '', again: false });
  document.body.toggleAttribute('data-old', verdict.old);
  badge(el('link'), verdict.link, verdict.level);
  if (frame) {
    say(el('headline'), headline(frame.counts, verdict.old));
    const mode = modes(frame.nodes);
    badge(el('mode'), mode.text, verdict.old ? 'none' : mode.level);
    const from = source(frame.source);
    badge(el('source'), from.text, verdict.old ? 'none' : from.level);
    say(el('as-of'), `as of ${clock(frame.as_of)}${age > 3_500 ? `, ${span(age)} ago` : ''}`);
  }
  shout(verdict);
  const has = Boolean(keeper.get());
  el('health').hidden = !has && !frame;
  el('leave').hidden = !has;
  say(el('holder'), holder(keeper.get()));
  el('holder').hidden = !el('holder').textContent;
  name(verdict);
}

function badge(element, text, level) {
  say(element, text);
  mark(element, 'level', level);
}

function shout({ alarm, more, again }) {
  const ends = claims(keeper.get() ?? '')?.exp * 1000;
  const warned = expiring && !alarm;
  el('alarm').hidden = !alarm && !warned;
  mark(el('alarm'), 'kind', warned ? 'note' : 'loud');
  say(el('alarm-text'), warned ? 'The token is about to end. Paste a new one, or this page goes deaf.' : (alarm ?? ''));
  say(el('alarm-more'), warned ? `${span(Math.max(0, ends - server.now()))} left.` : (more ?? ''));
  el('again').hidden = !again;
}

/** The tab says it too: it is often all that can be seen. */
function name({ old, link }) {
  const title = !frame ? 'hadir' : old ? `(${link}) hadir` : `${number(frame.counts.available)} available · hadir`;
  if (document.title !== title) document.title = title;
  showIcon(old || !frame ? 'away' : frame.counts.available > 0 ? 'here' : 'nobody');
}

el('again').addEventListener('click', () => socket.again());
el('leave').addEventListener('click', () => {
  keeper.forget();
  socket.close();
  frame = null;
  expiring = false;
  el('board').hidden = true;
  ask(null);
  look();
});

setInterval(look, LOOK_EVERY_MS);
setInterval(() => chart.describe(), DESCRIBE_EVERY_MS);
document.addEventListener('visibilitychange', look);
keeper.onFragment(enter);

const token = keeper.takeFromFragment() ?? keeper.get();
if (token) socket.open(token);
else ask(null);
look();
