// Questions and commands over REST, with the page's token.

import { isReadOnly } from '../shared/token.js';

const PATIENCE_MS = 10_000;

/** A refusal, in the server's own words where it had any. */
export class Refused extends Error {
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

export class Rest {
  #token;

  /** `token()` answers with the newest token. */
  constructor(token) {
    this.#token = token;
  }

  /** Whether commands are of no use: the server refuses them all. */
  get readOnly() {
    return isReadOnly(this.#token());
  }

  get(path) {
    return this.#ask('GET', path);
  }

  post(path, body) {
    return this.#ask('POST', path, body);
  }

  patch(path, body) {
    return this.#ask('PATCH', path, body);
  }

  async #ask(method, path, body) {
    const headers = { Authorization: `Bearer ${this.#token()}` };
    if (body !== undefined) headers['Content-Type'] = 'application/json';
    let answer;
    try {
      const signal = AbortSignal.timeout(PATIENCE_MS);
      answer = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: 'no-store', signal });
    } catch {
      throw new Refused(0, 'unavailable', 'The server does not answer.');
    }
    const said = await answer.json().catch(() => null);
    if (answer.ok) return said;
    throw new Refused(answer.status, said?.code, said?.detail ?? `The server answered ${answer.status}.`);
  }
}
