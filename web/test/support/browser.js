// The machine's Chromium, and pages whose every error and every request to a stranger is noted.

import { spawnSync } from 'node:child_process';
import assert from 'node:assert/strict';

import { chromium } from 'playwright-core';

const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

/** How long a test waits for what must come. It only ends a test that fails. */
export const PATIENCE = 45_000;

export async function launch() {
  const found = process.env.CHROMIUM ?? spawnSync('sh', ['-c', 'command -v chromium'], { encoding: 'utf8' }).stdout.trim();
  assert.ok(found, 'chromium is not installed: scripts/test --only browser installs it');
  return chromium.launch({ executablePath: found, args: FLAGS });
}

/** A tab of its own, with a record of what went wrong in it. */
export class Tab {
  errors = [];
  requests = [];

  static async open(browser, url, { width = 1440, height = 900, scheme = 'light' } = {}) {
    const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme, locale: 'en-GB' });
    const tab = new Tab();
    tab.context = context;
    tab.page = await context.newPage();
    tab.page.setDefaultTimeout(PATIENCE);
    tab.page.on('console', (message) => ['error', 'warning'].includes(message.type()) && tab.errors.push(message.text()));
    tab.page.on('pageerror', (error) => tab.errors.push(String(error)));
    context.on('request', (request) => tab.requests.push(request.url()));
    tab.page.on('websocket', (socket) => tab.requests.push(socket.url()));
    await tab.page.goto(url);
    return tab;
  }

  /** The visible text of an element. */
  text(selector) {
    return this.page.locator(selector).innerText();
  }

  async number(selector) {
    return Number((await this.text(selector)).replaceAll(',', ''));
  }

  /** Waits until the text of an element matches. */
  async says(selector, pattern) {
    const locator = this.page.locator(selector);
    const arrived = await eventually(async () => pattern.test(await locator.innerText().catch(() => '')));
    assert.ok(arrived, `${selector} says ${JSON.stringify(await locator.innerText().catch(() => '(nothing)'))}, not ${pattern}`);
  }

  /** Nothing went wrong, and nobody but this server was asked. */
  assertClean(server) {
    assert.deepEqual(this.errors, [], 'nothing on the console');
    const own = new Set([server.publicUrl, server.internalUrl].map((url) => new URL(url).host));
    const strangers = this.requests.filter((url) => !url.startsWith('data:') && !own.has(new URL(url).host));
    assert.deepEqual(strangers, [], 'no request to another origin');
    assert.ok(this.requests.some((url) => url.startsWith('ws:')), 'and its sockets were watched too');
  }

  async assertNoSidewaysScroll() {
    const { wide, window, who } = await this.page.evaluate(() => ({
      wide: document.documentElement.scrollWidth,
      window: document.documentElement.clientWidth,
      who: [...document.querySelectorAll('body *')].filter((one) => one.getBoundingClientRect().right > innerWidth + 0.5).map((one) => `${one.tagName}#${one.id}.${one.className}`).slice(0, 5),
    }));
    assert.equal(wide, window, `scrolls sideways because of ${who.join(', ')}`);
  }

  async close() {
    await this.context.close();
  }
}

/** Asks again and again until the answer is true. */
export async function eventually(question, patience = PATIENCE) {
  const until = Date.now() + patience;
  while (Date.now() < until) {
    if (await question()) return true;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return false;
}

/** The colours that a canvas shows, as `r,g,b` with the number of their pixels. */
export function pixels(page, selector) {
  return page.locator(selector).evaluate((canvas) => {
    // From a copy: reading the page's own canvas changes how the browser paints it.
    const copy = Object.assign(document.createElement('canvas'), { width: canvas.width, height: canvas.height }).getContext('2d', { willReadFrequently: true });
    copy.drawImage(canvas, 0, 0);
    const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
    const counts = {};
    for (let at = 0; at < data.length; at += 4) {
      if (data[at + 3] === 0) continue;
      const colour = `${data[at]},${data[at + 1]},${data[at + 2]}`;
      counts[colour] = (counts[colour] ?? 0) + 1;
    }
    return counts;
  });
}

/** A colour of the page's palette as `r,g,b`. */
export function paletteColour(page, name) {
  return page.evaluate((property) => {
    const probe = document.createElement('i');
    probe.style.color = `var(${property})`;
    document.body.append(probe);
    const rgb = getComputedStyle(probe).color.match(/\d+/g).slice(0, 3).join(',');
    probe.remove();
    return rgb;
  }, name);
}
