// A customer's beacon: is anybody available?

import { el, mark, say } from '../shared/page.js';
import { clock, span } from '../shared/time.js';
import { Visitor } from './visitor.js';

const visitor = new Visitor('customer', 'ws/availability', { took, look });
let news = null;

function took(frame) {
  if (frame.type !== 'availability') return;
  visitor.server.hear(frame.as_of);
  visitor.pulse();
  news = frame;
  el('board').hidden = false;
}

function look(state) {
  if (!news) return;
  const age = visitor.server.age(news.as_of);
  const live = state.name === 'open' && visitor.heardLately();
  const old = !live || news.stale || age > visitor.maxSilence();
  document.body.toggleAttribute('data-old', old);
  mark(el('beacon'), 'any', news.any);
  say(el('available'), String(news.available));
  const [is, can] = old ? ['was', 'could have answered you then'] : ['is', 'could answer you now'];
  say(el('sentence'), news.any ? `Somebody ${is} available.` : old ? 'Nobody was available.' : 'Nobody is available right now.');
  const people = news.available === 1 ? 'One mitra' : `${news.available} mitras`;
  say(el('detail'), news.any ? `${people} ${can}.` : 'This page changes the moment somebody comes.');
  const doubt = old ? `This was so at ${clock(news.as_of)}, and may have changed.` : `As of ${clock(news.as_of)}, ${span(age)} ago, from ${news.source}.`;
  say(el('freshness'), doubt);
  visitor.name(old ? 'away' : news.any ? 'here' : 'nobody', old ? 'A customer · hadir' : news.any ? 'Somebody is available' : 'Nobody yet');
}
