// Why one mitra is or is not available, as `GET /internal/mitras/{id}` tells it.

import { el, make } from '../shared/page.js';
import { clock, span } from '../shared/time.js';

const yes = (fact) => (fact ? 'yes' : 'no');
const age = (ms) => (ms === null ? 'none known' : `${span(ms)} ago`);

const FACTS = [
  ['Online', (facts) => yes(facts.online)],
  ['Active', (facts) => yes(facts.active)],
  ['Sessions', (facts) => `${facts.sessions} of ${facts.max_sessions}`],
  ['Last heartbeat', (facts) => age(facts.heartbeat_age_ms)],
  ['Go-onlines', (facts) => String(facts.online_epoch)],
  ['Fence', (facts) => `${facts.fence.generation}·${facts.fence.revision}`],
];

// The one that was asked for last: a slow answer about another must not fill its dialog.
let newest;

/** Opens the dialog for one mitra. */
export async function explain(rest, id, name) {
  const body = el('explanation-body');
  el('explanation-title').textContent = name;
  body.replaceChildren(make('p', { class: 'quiet', text: 'Asking…' }));
  el('explanation').showModal();
  await tell(rest, id);
}

async function tell(rest, id) {
  const body = el('explanation-body');
  newest = id;
  let told;
  try {
    const answer = await rest.get(`internal/mitras/${id}`);
    told = [...parts(answer), rest.readOnly ? '' : admin(rest, answer)];
  } catch (error) {
    told = [make('p', { class: 'wrong', text: error.message })];
  }
  if (newest === id) body.replaceChildren(...told);
}

/** What an operator may decide: whether this mitra takes part at all. A deactivation wants a reason, and so a second look. */
function admin(rest, { mitra_id, truth }) {
  const wrong = make('p', { class: 'wrong', role: 'alert' });
  const reason = make('input', { 'aria-label': 'Reason', placeholder: 'Reason, for the record', maxlength: 200, required: true });
  const word = truth.active ? 'Deactivate' : 'Reactivate';
  const form = make('form', { class: 'admin' }, truth.active ? reason : '', make('button', { class: truth.active ? 'grave' : '', text: word }), wrong);
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    try {
      await rest.patch(`internal/mitras/${mitra_id}/status`, { is_active: !truth.active, reason: reason.value || word.toLowerCase() });
      await tell(rest, mitra_id);
    } catch (error) {
      wrong.textContent = error.message;
    }
  });
  return form;
}

/** Times inside the server's sentences, as a clock on the wall says them. */
const readable = (sentence) => sentence.replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, (at) => clock(at));

function parts({ mitra_id, verdict, available, truth, mirror, node, sockets, sessions, events, source, as_of }) {
  const column = (facts, read) => make('td', { text: facts ? read(facts) : '–' });
  const rows = FACTS.map(([label, read]) => make('tr', {}, make('th', { scope: 'row', text: label }), column(truth, read), column(mirror, read)));
  const head = make('tr', {}, make('td'), make('th', { scope: 'col', text: 'Truth' }), make('th', { scope: 'col', text: 'Mirror' }));
  const agreement = !mirror
    ? 'The mirror does not know this mitra, or cannot be asked.'
    : mirror.agrees
      ? 'Truth and mirror agree.'
      : 'The mirror is behind the truth.';
  const held = Object.entries(sockets).filter(([, count]) => count > 0);
  const where = held.map(([id, count]) => `${count} on node ${id}`).join(', ');
  const heard = node.heartbeat_age_ms === null ? '' : ` Heard by node ${node.node_id} ${age(node.heartbeat_age_ms)}.`;
  return [
    make('p', { class: 'verdict', 'data-available': String(available), text: readable(verdict) }),
    make('p', { class: 'quiet' }, make('code', { text: mitra_id })),
    make('table', { class: 'list facts' }, make('thead', {}, head), make('tbody', {}, ...rows)),
    make('p', { class: 'quiet', text: `${agreement} Sockets: ${where || 'none'}.${heard} Judged from ${source}, as of ${clock(as_of)}.` }),
    sessions.length === 0 ? '' : make('p', { class: 'quiet' }, 'Sessions: ', make('code', { text: sessions.join(', ') })),
    make('h3', { text: 'Last events' }),
    events.length === 0
      ? make('p', { class: 'quiet', text: 'None yet.' })
      : make('ol', { class: 'events' }, ...events.map((event) => make('li', {},
        make('time', { datetime: event.at, text: clock(event.at) }),
        make('b', { text: event.kind }),
        make('span', { class: 'quiet', text: `by ${event.actor}${event.reason ? `, ${event.reason}` : ''}` })))),
  ];
}
