// What it looks like: pictures for people to look at, and nothing that scrolls sideways.

import { mkdirSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import assert from 'node:assert/strict';

import { eventually, launch, Tab } from './support/browser.js';
import { Server } from './support/server.js';

const FOLDER = process.env.SCREENSHOTS ?? fileURLToPath(new URL('../../target/screenshots', import.meta.url));
/** Enough for the chart to show a line. `SCREENSHOT_POINTS` may ask for more. */
const POINTS = Number(process.env.SCREENSHOT_POINTS ?? 12);

describe('screens', () => {
  let server;
  let browser;

  before(async () => {
    mkdirSync(FOLDER, { recursive: true });
    [server, browser] = await Promise.all([Server.demo({ mitras: 60, customers: 40 }), launch()]);
  });
  after(() => Promise.all([browser?.close(), server?.end()]));

  for (const width of [1440, 768, 360]) {
    for (const scheme of ['light', 'dark']) {
      test(`${width} px, ${scheme}`, async () => {
        const options = { width, height: width < 500 ? 740 : 900, scheme };
        const tabs = {
          dashboard: await Tab.open(browser, server.dashboard(), options),
          door: await Tab.open(browser, `${server.internalUrl}/`, options),
          mitra: await Tab.open(browser, server.page('mitra'), options),
          customer: await Tab.open(browser, server.page('customer'), options),
        };
        await tabs.dashboard.says('#link', /^Live$/);
        await tabs.dashboard.page.locator('#mitras tr').first().waitFor();
        const plot = tabs.dashboard.page.locator('#plot');
        assert.ok(await eventually(async () => Number(await plot.getAttribute('data-points')) >= POINTS, 600_000), 'the chart has points');
        await tabs.mitra.page.locator('#board').waitFor();
        await tabs.customer.page.locator('#board').waitFor();
        for (const [name, tab] of Object.entries(tabs)) {
          await tab.assertNoSidewaysScroll();
          await tab.page.screenshot({ path: `${FOLDER}/${name}-${width}-${scheme}.png`, fullPage: true });
        }
        await tabs.dashboard.page.locator('#mitras button').first().click();
        await tabs.dashboard.page.locator('.verdict').waitFor();
        await tabs.dashboard.assertNoSidewaysScroll();
        await tabs.dashboard.page.screenshot({ path: `${FOLDER}/explanation-${width}-${scheme}.png` });
        for (const tab of Object.values(tabs)) await tab.close();
      });
    }
  }
});
