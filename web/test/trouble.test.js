// A dashboard that is green and deaf must be impossible.

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';

import { eventually, launch, Tab } from './support/browser.js';
import { Server } from './support/server.js';

const SUBJECT = '018f3c1e-7b5a-7c3d-9e2f-1a2b3c4d5e6f';

describe('the dashboard in trouble', () => {
  let browser;
  let server;
  let tab;

  before(async () => {
    browser = await launch();
  });
  after(() => browser?.close());
  beforeEach(async () => {
    server = await Server.demo({ mitras: 10, customers: 3, HADIR_MAX_SILENCE_MS: '2000', HADIR_RECONNECT_WINDOW_MS: '500', DRAIN_SECONDS: '1' });
  });
  afterEach(async () => {
    await tab?.close();
    await server.end();
  });

  const open = async (token) => {
    tab = await Tab.open(browser, server.dashboard(token));
    await tab.says('#link', /^Live$/);
    await tab.page.locator('body:not([data-old])').waitFor();
  };
  const isOld = () => tab.page.locator('body[data-old]').waitFor();
  const isLive = async () => {
    await tab.says('#link', /^Live$/);
    await tab.page.locator('body:not([data-old])').waitFor();
    await tab.page.locator('#alarm').waitFor({ state: 'hidden' });
  };

  test('a killed server: disconnected at once, the figures grey, and back by itself', async () => {
    await open();
    await server.signal('SIGKILL');
    await isOld();
    await tab.says('#link', /^Disconnected$/);
    await tab.says('#alarm', /connection was lost[\s\S]*What you see is from \d\d:\d\d:\d\d[\s\S]*Try now/);
    await tab.says('#headline', /was|could/);
    assert.match(await tab.page.title(), /^\(Disconnected\)/);
    const faded = await tab.page.locator('.now').evaluate((one) => getComputedStyle(one).filter);
    assert.equal(faded, 'grayscale(1)');
    await server.start();
    await isLive();
  });

  test('a restarting node: the page dials again', async () => {
    await open();
    await server.signal('SIGTERM');
    await isOld();
    await server.start();
    await isLive();
  });

  test('a frozen server: deaf is said aloud, and ends', async () => {
    await open();
    await server.signal('SIGSTOP');
    await isOld();
    await tab.says('#alarm', /fell silent|does not answer/);
    await server.signal('SIGCONT');
    await isLive();
  });

  test('frames that bring old figures: not live', async () => {
    await open();
    // The socket speaks on, and what it says stands still, as with a server whose counting hangs.
    await tab.page.addInitScript(() => {
      const parse = JSON.parse;
      let first;
      JSON.parse = (text) => {
        const frame = parse(text);
        if (frame?.type !== 'dashboard') return frame;
        first ??= frame.as_of;
        return { ...frame, as_of: first };
      };
    });
    await tab.page.reload();
    await tab.says('#link', /^Live$/);
    await tab.says('#link', /^Old news$/);
    await isOld();
    await tab.says('#alarm', /old figures/);
  });

  test('an error in the page itself: said aloud', async () => {
    await open();
    await tab.page.evaluate(() => setTimeout(() => { throw new Error('a bolt came loose'); }));
    await tab.says('#alarm', /error of its own.*a bolt came loose/);
    await isOld();
  });

  test('an operator closes the page: it stays away until a person asks', async () => {
    await open(server.token('dashboard', { sub: SUBJECT }));
    const sockets = () => tab.requests.filter((url) => url.startsWith('ws:')).length;
    await server.ask('/internal/disconnect', { method: 'POST', body: { sub: SUBJECT, reason: 'night shift over' } });
    await tab.says('#alarm', /operator closed this connection \(night shift over\)[\s\S]*does not come back by itself/);
    await isOld();
    assert.equal(sockets(), 1);
    await tab.page.getByRole('button', { name: 'Try now' }).click();
    await isLive();
    assert.equal(sockets(), 2);
  });

  test('a token near its end is renewed on the living socket', async () => {
    await open(server.token('dashboard', { sub: SUBJECT, ttl: 25 }));
    const connection = await tab.text('#foot');
    await tab.says('#alarm', /token is about to end[\s\S]*left/);
    await tab.page.getByLabel('Dashboard token').fill(server.token('dashboard', { sub: SUBJECT, ttl: 3600 }));
    await tab.page.getByRole('button', { name: 'Watch' }).click();
    await isLive();
    await tab.page.locator('#door').waitFor({ state: 'hidden' });
    assert.equal(await tab.text('#foot'), connection, 'the same connection');
    // And REST has the new one.
    await tab.page.getByRole('button', { name: 'Pause reseed' }).click();
    await tab.page.getByRole('button', { name: 'Resume reseed' }).waitFor();
    tab.assertClean(server);
  });

  test('a token that has ended is asked for again; one of another subject will do', async () => {
    await open(server.token('dashboard', { ttl: 3 }));
    await tab.says('#door-wrong', /token has ended/);
    await isOld();
    await tab.says('#link', /^Needs a token$/);
    await tab.page.getByLabel('Dashboard token').fill(server.tokens.dashboard);
    await tab.page.getByRole('button', { name: 'Watch' }).click();
    await isLive();
  });

  test('the rule of close codes, and the waits between attempts', async () => {
    await open();
    const rule = await tab.page.evaluate(async () => {
      const { afterClose } = await import('/assets/shared/socket.js');
      return Object.fromEntries([1000, 1006, 1011, 1012, 1013, 4000, 4401, 4408, 4499, 4500, 4503, 4999].map((code) => [code, afterClose(code)]));
    });
    assert.deepEqual(rule, { 1000: 'later', 1006: 'later', 1011: 'later', 1012: 'now', 1013: 'later', 4000: 'later', 4401: 'token', 4408: 'later', 4499: 'later', 4500: 'never', 4503: 'never', 4999: 'never' });
    const attempts = () => tab.errors.filter((text) => text.includes('WebSocket')).length;
    await server.signal('SIGKILL');
    assert.ok(await eventually(() => attempts() >= 3), 'it keeps trying');
    const longest = await tab.page.evaluate(() => document.getElementById('alarm-more').textContent);
    assert.match(longest, /Trying (again (in \d+ s|now)|now)/);
  });
});
