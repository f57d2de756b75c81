// The mitra's and the customer's page: a button here, a beacon there.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { eventually, launch, Tab } from './support/browser.js';
import { Server } from './support/server.js';

const FLEET = '4ad1de00-0000-4000-8000-000000000000';

describe('the pages of the demo', () => {
  let server;
  let browser;
  let mitra;
  let customer;

  before(async () => {
    [server, browser] = await Promise.all([Server.demo({ mitras: 1, customers: 1 }), launch()]);
    // The one mitra of the fleet is told to stay at home: whoever is available is the person at the button.
    await server.ask(`/internal/mitras/${FLEET}/status`, { method: 'PATCH', body: { is_active: false } });
    [mitra, customer] = await Promise.all([Tab.open(browser, server.page('mitra'), { width: 360, height: 740 }), Tab.open(browser, server.page('customer'), { width: 360, height: 740 })]);
  });
  after(() => Promise.all([browser?.close(), server?.end()]));

  test('nobody is there at first, and the tokens are out of the addresses', async () => {
    await mitra.says('#sentence', /^You are offline\.$/);
    await customer.says('#sentence', /^Nobody is available right now\.$/);
    assert.equal(mitra.page.url(), `${server.publicUrl}/demo/mitra`);
    assert.equal(customer.page.url(), `${server.publicUrl}/demo/customer`);
  });

  test('the button lights the beacon, and the dashboard counts it', async () => {
    await mitra.page.getByRole('button', { name: 'Go online' }).click();
    await mitra.says('#sentence', /^You are available\.$/);
    await customer.says('#sentence', /^Somebody is available\.$/);
    await customer.says('#available', /^1$/);
    await customer.says('#freshness', /^As of \d\d:\d\d:\d\d, .* ago, from memory\.$/);
    const dashboard = await Tab.open(browser, server.dashboard());
    await dashboard.says('#available', /^1$/);
    await dashboard.says('#mitras', /You \(printed token\)\s+available/);
    dashboard.assertClean(server);
    await dashboard.close();
  });

  test('heartbeats are seen', async () => {
    const beats = () => mitra.page.locator('#heartbeats li').count();
    const had = await beats();
    assert.ok(await eventually(async () => (await beats()) > had), 'one more');
  });

  test('a lost network changes nothing for the customer', async () => {
    await mitra.page.getByRole('button', { name: 'Lose the network' }).click();
    await mitra.says('#switch-text', /^In a tunnel$/);
    await mitra.says('#detail', /everybody else you still are/);
    await eventually(async () => (await server.ask('/internal/counts')).sockets.mitra === 0);
    const { counts } = await server.ask('/internal/counts');
    assert.equal(counts.available, 1);
    assert.match(await customer.text('#sentence'), /^Somebody is available\.$/);
    await mitra.page.getByRole('button', { name: 'Come out now' }).click();
    await mitra.says('#switch-text', /^Go offline$/);
    await mitra.says('#sentence', /^You are available\.$/);
  });

  test('the button puts the beacon out', async () => {
    await mitra.page.getByRole('button', { name: 'Go offline' }).click();
    await mitra.says('#sentence', /^You are offline\.$/);
    await customer.says('#sentence', /^Nobody is available right now\.$/);
  });

  test('all of that on a phone, with nothing on the console and nobody else asked', async () => {
    for (const tab of [mitra, customer]) {
      tab.assertClean(server);
      await tab.assertNoSidewaysScroll();
    }
  });

  test('a deactivated mitra is told', async () => {
    const { mitra_id } = (await server.ask('/internal/mitras?search=You')).mitras[0];
    await server.ask(`/internal/mitras/${mitra_id}/status`, { method: 'PATCH', body: { is_active: false } });
    await mitra.says('#alarm', /deactivated by staff/);
    await server.ask(`/internal/mitras/${mitra_id}/status`, { method: 'PATCH', body: { is_active: true } });
    await mitra.page.getByRole('button', { name: 'Try now' }).click();
    await mitra.says('#sentence', /^You are offline\.$/);
  });

  test('a pasted token opens them, a wrong one is explained', async () => {
    for (const [page, other] of [['mitra', 'customer'], ['customer', 'mitra']]) {
      const tab = await Tab.open(browser, `${server.publicUrl}/demo/${page}`);
      const field = tab.page.getByLabel(/token$/);
      await field.fill(server.tokens[other]);
      await field.press('Enter');
      await tab.says('#door-wrong', new RegExp(`role ${other}`));
      await field.fill(server.tokens[page]);
      await field.press('Enter');
      await tab.page.locator('#board').waitFor();
      tab.assertClean(server);
      await tab.close();
    }
  });

  test('without its server the beacon is grey and says so', async () => {
    await server.signal('SIGKILL');
    await customer.page.locator('body[data-old]').waitFor();
    await customer.says('#alarm', /connection is lost/);
    await customer.says('#freshness', /may have changed/);
  });
});
