// REST of the internal listener, as the backend calls it.

import http from 'k6/http';
import { check, fail } from 'k6';
import { INTERNAL_URL } from './settings.js';
import { bearer, id } from './tokens.js';

const AT_ONCE = 20;

// Mitras 0 to `count` exist; the same ones at every run.
export function createMitras(count) {
  const headers = { ...bearer('service'), 'Content-Type': 'application/json' };
  for (let first = 0; first < count; first += AT_ONCE) {
    const numbers = Array.from({ length: Math.min(AT_ONCE, count - first) }, (_, index) => first + index);
    const answers = http.batch(
      numbers.map((number) => ({
        method: 'PUT',
        url: `${INTERNAL_URL}/internal/mitras/${id('mitra', number)}`,
        body: JSON.stringify({ display_name: `Load ${number}` }),
        params: { headers, tags: { name: 'PUT /internal/mitras/{id}' } },
      })),
    );
    const refused = answers.find((answer) => answer.status !== 200);
    if (refused) fail(`a mitra cannot be created: ${refused.status} ${refused.body} ${refused.error}`);
  }
}

export function counts() {
  const answer = http.get(`${INTERNAL_URL}/internal/counts`, { headers: bearer('service'), tags: { name: 'GET /internal/counts' } });
  check(answer, { 'counts are answered': () => answer.status === 200 });
  return answer.json();
}
