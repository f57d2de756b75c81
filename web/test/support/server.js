// A `hadir demo` of the test's own: on free ports, with a data folder of its own, ended by its id.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const BINARY = process.env.HADIR_BINARY ?? fileURLToPath(new URL('../../../target/debug/hadir', import.meta.url));

/** Only what the server needs: nothing of the caller's settings may reach it. */
function environment(settings) {
  const { PATH, HOME, TMPDIR, LLVM_PROFILE_FILE } = process.env;
  const kept = Object.entries({ PATH, HOME, TMPDIR, LLVM_PROFILE_FILE }).filter(([, value]) => value !== undefined);
  return { ...Object.fromEntries(kept), HADIR_LOG: 'warn', ...settings };
}

export class Server {
  #settings;
  #args;
  #process = null;
  #folder = mkdtempSync(join(tmpdir(), 'hadir-browser-'));
  #said = '';

  constructor(args, settings) {
    this.#args = args;
    this.#settings = settings;
  }

  /** Starts the demo; `settings` are environment variables. */
  static async demo({ mitras = 40, customers = 12, ...settings } = {}) {
    const server = new Server(['demo', '--mitras', String(mitras), '--customers', String(customers)], settings);
    await server.start();
    return server;
  }

  /** Starts, or starts again: on the same addresses with the same data. */
  async start() {
    const free = '127.0.0.1:0';
    const env = environment({
      HADIR_PUBLIC_ADDR: this.publicUrl ? new URL(this.publicUrl).host : free,
      HADIR_INTERNAL_ADDR: this.internalUrl ? new URL(this.internalUrl).host : free,
      HADIR_DATA_DIR: this.#folder,
      ...this.#settings,
    });
    const child = spawn(BINARY, this.#args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#process = child;
    child.stderr.setEncoding('utf8').on('data', (text) => (this.#said = (this.#said + text).slice(-4_000)));
    const line = await Promise.race([
      once(createInterface({ input: child.stdout }), 'line').then(([text]) => text),
      once(child, 'exit').then(([code]) => Promise.reject(new Error(`the server ended (${code}): ${this.#said}`))),
      once(child, 'error').then(([error]) => Promise.reject(error)),
    ]);
    const { public_url, internal_url, tokens } = JSON.parse(line);
    Object.assign(this, { publicUrl: public_url, internalUrl: internal_url, tokens });
  }

  /** Sends a signal; after one that ends it, waits until it has ended. */
  async signal(name) {
    const child = this.#process;
    const ended = child.exitCode !== null || child.signalCode !== null;
    if (ended) return;
    child.kill(name);
    if (name === 'SIGKILL' || name === 'SIGTERM') await once(child, 'exit');
  }

  async end() {
    await this.signal('SIGKILL');
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** A token signed with this server's secret. */
  token(role, { ttl, sub, more = [] } = {}) {
    const args = ['token', '--role', role, ...more];
    if (ttl) args.push('--ttl-seconds', String(ttl));
    if (sub) args.push('--sub', sub);
    const { stdout, stderr, status } = spawnSync(BINARY, args, { env: environment({ HADIR_DATA_DIR: this.#folder }), encoding: 'utf8' });
    if (status !== 0) throw new Error(stderr);
    return stdout.trim();
  }

  /** Asks the internal listener as a backend. */
  async ask(path, { method = 'GET', body } = {}) {
    const headers = { Authorization: `Bearer ${this.tokens.service}`, 'Content-Type': 'application/json' };
    const answer = await fetch(new URL(path, this.internalUrl), { method, headers, body: body && JSON.stringify(body) });
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  }

  dashboard(token = this.tokens.dashboard) {
    return `${this.internalUrl}/#token=${token}`;
  }

  page(name, token = this.tokens[name]) {
    return `${this.publicUrl}/demo/${name}#token=${token}`;
  }
}
