// The dashboard as an operator uses it.

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';

import { eventually, launch, paletteColour, pixels, Tab } from './support/browser.js';
import { Server } from './support/server.js';

describe('the dashboard', () => {
  let server;
  let browser;
  let tab;

  before(async () => {
    [server, browser] = await Promise.all([Server.demo(), launch()]);
  });
  after(() => Promise.all([browser?.close(), server?.end()]));
  afterEach(() => tab?.close());

  const open = async (url, options) => (tab = await Tab.open(browser, url, options));

  test('takes its token from the fragment, and out of the address', async () => {
    await open(server.dashboard());
    await tab.says('#link', /^Live$/);
    assert.equal(tab.page.url(), `${server.internalUrl}/`);
    assert.equal(await tab.page.evaluate(() => performance.getEntriesByType('resource').some(({ name }) => name.includes('token='))), false);
    tab.assertClean(server);
  });

  test('shows numbers that move, and that agree with each other', async () => {
    await open(server.dashboard());
    await tab.says('#link', /^Live$/);
    const seen = new Set();
    const moved = await eventually(async () => {
      const at = await tab.page.evaluate(() => ['available', 'count-online', 'count-reachable', 'count-busy', 'count-suspect'].map((id) => Number(document.getElementById(id).textContent)));
      const [available, online, reachable, busy, suspect] = at;
      assert.equal(reachable, available + busy);
      assert.equal(online, reachable + suspect);
      seen.add(at.join());
      return seen.size >= 4;
    });
    assert.ok(moved, `only ${[...seen].join(' · ')} was seen`);
    const [dots, online] = await tab.page.evaluate(() => [document.querySelectorAll('#roll .dot').length, Number(document.getElementById('count-online').textContent)]);
    assert.equal(dots, online, 'a dot for each');
    assert.ok(await eventually(async () => (await tab.number('#sockets-customer')) > 0));
    assert.ok((await tab.number('#sockets-dashboard')) >= 1);
    await tab.says('#mode', /^Mode live$/);
    await tab.says('#source', /^From memory$/);
    assert.match(await tab.page.title(), /^\d+ available · hadir$/);
    tab.assertClean(server);
  });

  test('shows sessions by status, as the server counts them', async () => {
    await open(server.dashboard());
    await tab.says('#link', /^Live$/);
    for (const status of ['active_sessions', 'pending_payment_sessions']) {
      const seen = new Set();
      const moved = await eventually(async () => {
        seen.add(await tab.number(`#count-${status}`));
        return seen.size >= 2 && Math.max(...seen) > 0;
      });
      assert.ok(moved, `${status}: only ${[...seen].join(' · ')} was seen`);
    }
    const agrees = await eventually(async () => {
      const { counts } = await server.ask('/internal/counts');
      const shown = await Promise.all(['active_sessions', 'pending_payment_sessions', 'busy'].map((key) => tab.number(`#count-${key}`)));
      return shown.join() === [counts.active_sessions, counts.pending_payment_sessions, counts.busy].join();
    });
    assert.ok(agrees, 'the page and REST say the same');
    tab.assertClean(server);
  });

  test('draws the chart, in either scheme', async () => {
    for (const scheme of ['light', 'dark']) {
      await open(server.dashboard(), { scheme });
      await tab.says('#link', /^Live$/);
      const leaf = await paletteColour(tab.page, '--leaf');
      const drawn = await eventually(async () => {
        if ((await tab.page.locator('#plot canvas').count()) === 0) return false;
        return ((await pixels(tab.page, '#plot canvas'))[leaf] ?? 0) > 100;
      });
      assert.ok(drawn, `the line of the available ones, ${leaf}, is on the canvas (${scheme})`);
      await tab.page.locator('#spans').getByText('5 min', { exact: true }).click();
      assert.ok(((await pixels(tab.page, '#plot canvas'))[leaf] ?? 0) > 100);
      tab.assertClean(server);
      await tab.close();
    }
  });

  test('begins the chart with what the server remembers', async () => {
    await open(server.dashboard());
    const points = async () => Number(await tab.page.locator('#plot').getAttribute('data-points'));
    assert.ok(await eventually(async () => (await points()) >= 2));
    await tab.close();
    // The server's history has a point each ten seconds.
    const remembered = await eventually(async () => {
      await open(server.dashboard());
      await tab.page.locator('#plot[data-points]').waitFor();
      await tab.says('#link', /^Live$/);
      const had = await points();
      if (had >= 4) return true;
      await tab.close();
      return false;
    });
    assert.ok(remembered, 'a new page has older points at once');
  });

  test('takes a pasted token, keeps it over a reload, forgets it when asked', async () => {
    await open(`${server.internalUrl}/`);
    await tab.page.getByLabel('Dashboard token').fill(`  http://somewhere/#token=${server.tokens.dashboard}\n`);
    await tab.page.getByRole('button', { name: 'Watch' }).click();
    await tab.says('#link', /^Live$/);
    assert.equal(await tab.page.locator('#door').isVisible(), false);
    await tab.page.reload();
    await tab.says('#link', /^Live$/);
    await tab.page.getByRole('button', { name: 'Forget token' }).click();
    await tab.page.getByLabel('Dashboard token').waitFor();
    assert.equal(await tab.page.locator('#board').isVisible(), false);
    await tab.page.reload();
    await tab.page.getByLabel('Dashboard token').waitFor();
    tab.assertClean(server);
  });

  test('says what is wrong with a token', async () => {
    await open(`${server.internalUrl}/`);
    const paste = async (text) => {
      await tab.page.getByLabel('Dashboard token').fill(text);
      await tab.page.getByRole('button', { name: 'Watch' }).click();
    };
    await paste('open sesame');
    await tab.says('#door-wrong', /not a token/);
    await paste(server.tokens.customer);
    await tab.says('#door-wrong', /role customer.*needs one for dashboard/);
    const [head, body] = server.tokens.dashboard.split('.');
    await paste(`${head}.${body}.${'A'.repeat(43)}`);
    await tab.says('#door-wrong', /does not know this token/);
    assert.equal(await tab.page.locator('#board').isVisible(), false, 'and shows no figure');
    await paste(server.tokens.dashboard);
    await tab.says('#link', /^Live$/);
  });

  test('says what is wrong with the token of a link', async () => {
    await open(server.dashboard(server.tokens.mitra));
    await tab.says('#door-wrong', /role mitra.*needs one for dashboard/);
    await tab.page.getByLabel('Dashboard token').waitFor();
  });

  test('pauses and resumes a sweep', async () => {
    await open(server.dashboard());
    const paused = async () => (await server.ask('/internal/sweeps')).sweeps.find(({ name }) => name === 'reseed').paused_until;
    await tab.page.getByLabel('Pause for').selectOption('1 hour');
    await tab.page.getByRole('button', { name: 'Pause reseed' }).click();
    await tab.page.getByRole('button', { name: 'Resume reseed' }).waitFor();
    const left = Date.parse(await paused()) - Date.now();
    assert.ok(left > 3_000_000 && left <= 3_600_000, `paused for an hour: ${left}`);
    await tab.says('#sweeps tr[data-key=reseed]', /paused\s+until \d\d:\d\d/);
    await tab.page.getByRole('button', { name: 'Resume reseed' }).click();
    await tab.page.getByRole('button', { name: 'Pause reseed' }).waitFor();
    assert.equal(await paused(), null);
    tab.assertClean(server);
  });

  test('finds a mitra, explains it, and lets an operator deactivate it', async () => {
    await open(server.dashboard());
    await tab.page.getByLabel('Name, or beginning of the id').fill('citra wij');
    await tab.says('#mitras-note', /^1,/);
    const id = await tab.page.locator('#mitras tr').getAttribute('data-key');
    await tab.page.getByRole('button', { name: 'Citra Wijaya' }).press('Enter');
    await tab.says('#explanation', /Truth\s+Mirror[\s\S]*Truth and mirror agree[\s\S]*Last events/);
    const dialog = tab.page.getByRole('dialog');
    await dialog.getByLabel('Reason').fill('asked to');
    await dialog.getByRole('button', { name: 'Deactivate' }).click();
    await tab.says('.verdict', /deactivated since \d\d:\d\d:\d\d by dashboard \(asked to\)/);
    assert.equal((await server.ask(`/internal/mitras/${id}`)).truth.active, false);
    await tab.says('#count-deactivated', /^1$/);
    await dialog.getByRole('button', { name: 'Reactivate' }).click();
    await tab.says('.verdict', /offline/);
    await tab.page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'hidden' });
    await tab.page.getByLabel('State', { exact: true }).selectOption('deactivated');
    await tab.says('#mitras-note', /^none found$/);
    tab.assertClean(server);
  });

  test('shows who looks, and offers no change to a token that is read-only', async () => {
    const token = server.token('dashboard', { more: ['--name', 'Sari Dewi', '--read-only'] });
    await open(server.dashboard(token));
    await tab.says('#link', /^Live$/);
    await tab.says('#holder', /^Sari Dewi, read-only$/);
    await tab.page.locator('#sweeps tr').first().waitFor();
    assert.equal(await tab.page.locator('#sweeps button:visible').count(), 0);
    await tab.page.locator('#mitras button').first().click();
    await tab.page.locator('.verdict').waitFor();
    assert.equal(await tab.page.locator('#explanation form.admin').count(), 0);
    await tab.close();
    await open(server.dashboard());
    await tab.says('#link', /^Live$/);
    await tab.page.locator('#sweeps button:visible').first().waitFor();
    assert.equal(await tab.page.locator('#holder').isVisible(), false);
    tab.assertClean(server);
  });

  test('shows a name that looks like markup as the text it is', async () => {
    const id = '018f3c1e-7b5a-7c3d-9e2f-1a2b3c4d5e6f';
    await server.ask(`/internal/mitras/${id}`, { method: 'PUT', body: { display_name: '<img src=x onerror=alert(1)>' } });
    await open(server.dashboard());
    await tab.page.getByLabel('Name, or beginning of the id').fill('018f3c1e');
    await tab.page.getByRole('button', { name: '<img src=x' }).click();
    await tab.says('#explanation-title', /^<img src=x onerror=alert\(1\)>$/);
    tab.assertClean(server);
  });

  test('has text that can be read, in either scheme', async () => {
    const pairs = [
      ['--ink', '--ground'], ['--ink', '--surface'], ['--ink-2', '--ground'], ['--ink-2', '--surface'], ['--ink-2', '--sunk'],
      ['--leaf', '--ground'], ['--leaf', '--leaf-soft'], ['--on-leaf', '--leaf'], ['--turmeric-ink', '--ground'],
      ['--turmeric-ink', '--turmeric-soft'], ['--clay', '--surface'], ['--clay', '--clay-soft'], ['--on-clay', '--clay'],
    ];
    const light = (rgb) => rgb.split(',').map(Number).map((part) => part / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)).reduce((sum, part, n) => sum + part * [0.2126, 0.7152, 0.0722][n], 0);
    for (const scheme of ['light', 'dark']) {
      await open(server.dashboard(), { scheme });
      for (const pair of pairs) {
        const [one, other] = (await Promise.all(pair.map((name) => paletteColour(tab.page, name)))).map(light);
        const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        assert.ok(contrast >= 4.5, `${pair.join(' on ')} has a contrast of ${contrast.toFixed(2)} (${scheme})`);
      }
      await tab.close();
    }
  });
});
