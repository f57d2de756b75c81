// Whether the figures on the page may be believed, and what to say when not. A dashboard that is green and deaf must be
// impossible: every reason to doubt ends here, and none of them waits for the server to say so.

import { clock, span } from '../shared/time.js';

/** Without news for this long the page begins to count aloud; the server promises far more often than that. */
const UNEASY_MS = 3_500;
/** What is known of the other nodes is old from here on: a node that reports does so several times within it. */
const OLD_NODES_MS = 10_000;

const CLOSES = {
  1006: 'The connection was lost or refused.',
  1012: 'The node restarts.',
  1013: 'The server is overloaded or cannot reach its stores.',
  4408: 'The server did not hear this page.',
  4410: 'This page did not read for too long.',
  4500: 'The server did not understand this page.',
  4501: 'The sign-in behind this token was revoked.',
};

function because({ code, reason }) {
  if (code === 0) return reason === 'silence' ? 'The server fell silent.' : 'The server does not answer.';
  if (code === 4502) return `An operator closed this connection${reason && reason !== 'disconnected' ? ` (${reason})` : ''}.`;
  if (code === 4503) return 'This token may not watch the dashboard.';
  return CLOSES[code] ?? `The connection was closed (${code}${reason ? ` ${reason}` : ''}).`;
}

/**
 * `link`: a word for the badge; `level`: `good`, `uneasy` or `bad`; `old`: grey the figures; `alarm`: a sentence to shout,
 * `more`: what changes by the second, said beside it, `again`: offer to try at once.
 */
export function judge({ state, frame, silentFor, maxSilence, age, leaving }) {
  const from = frame ? ` What you see is from ${clock(frame.as_of)}.` : '';
  const old = frame ? `${span(age)} old. ` : '';
  const lost = (why) => ({ link: 'Disconnected', level: 'bad', old: true, again: true, alarm: `${because(why)}${from}` });
  switch (state.name) {
    case 'closed':
      return { link: 'Not connected', level: 'bad', old: true };
    case 'token':
      return { link: 'Needs a token', level: 'bad', old: true };
    case 'ended':
      return { ...lost(state.why), more: `${old}This page does not come back by itself.` };
    case 'connecting':
      return state.why ? { ...lost(state.why), again: false, more: `${old}Trying now.` } : { link: 'Connecting', level: 'uneasy', old: true };
    case 'waiting': {
      const seconds = Math.ceil(state.until() / 1000);
      return { ...lost(state.why), more: `${old}Trying again ${seconds > 0 ? `in ${seconds} s` : 'now'}.` };
    }
    default:
  }
  if (!frame) return { link: 'Connecting', level: 'uneasy', old: true };
  if (silentFor > maxSilence) return { link: 'Deaf', level: 'bad', old: true, again: true, alarm: `Nothing is heard any more.${from}`, more: old };
  if (age > maxSilence) return { link: 'Old news', level: 'bad', old: true, alarm: `The server sends old figures.${from}`, more: old };
  if (frame.stale) {
    return { link: 'Stale', level: 'bad', old: true, alarm: 'The server can ask neither its mirror nor its store.', more: 'These are the last figures it knew.' };
  }
  if (leaving) return { link: 'Node restarts', level: 'uneasy', old: false };
  if (silentFor > UNEASY_MS) return { link: `Heard ${span(silentFor)} ago`, level: 'uneasy', old: false };
  return { link: 'Live', level: 'good', old: false };
}

/** How many nodes are known, and how old that is: `age` in ms, null when the mirror never named the other nodes. */
export function known(count, age) {
  if (age === null) return 'this one; others unknown';
  const many = count === 1 ? 'one' : String(count);
  return age > OLD_NODES_MS ? `${many}, as of ${span(age)} ago` : many;
}

const MODES = { live: 'live', rebuilding: 'rebuilding the mirror', fallback: 'fallback: the mirror is away', stale: 'stale: both stores are away' };

/** The modes of all nodes in a few words. */
export function modes(nodes) {
  const odd = nodes.filter((node) => node.mode !== 'live');
  if (nodes.length === 0) return { text: 'No node reports', level: 'uneasy' };
  if (odd.length === 0) return { text: nodes.length === 1 ? 'Mode live' : `${nodes.length} nodes live`, level: 'good' };
  const worst = ['stale', 'fallback', 'rebuilding'].find((mode) => odd.some((node) => node.mode === mode)) ?? odd[0].mode;
  const level = worst === 'stale' ? 'bad' : 'uneasy';
  const who = nodes.length === 1 ? 'Mode' : `${odd.length} of ${nodes.length} nodes`;
  return { text: `${who} ${MODES[worst] ?? worst}`, level };
}

const SOURCES = {
  valkey: ['From Valkey', 'good'],
  memory: ['From memory', 'good'],
  postgres: ['From Postgres', 'uneasy'],
  sqlite: ['From SQLite', 'uneasy'],
  local: ['Last known', 'bad'],
};

/** Where the figures come from: the mirror as usual, or something slower. */
export function source(word) {
  const [text, level] = SOURCES[word] ?? [`From ${word}`, 'uneasy'];
  return { text, level };
}
