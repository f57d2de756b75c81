// Mitras online and available over time: the server's history first, then each frame.

/* global uPlot */
import { el, make, mark, say } from '../shared/page.js';
import { clock, hourAndMinute } from '../shared/time.js';

const KEPT_SECONDS = 3_600;
/** Two points further apart than this are not joined: nobody watched between them. */
const GAP_SECONDS = 25;
const SHORTEST_SECONDS = 60;
const SPANS = [['5 min', 300], ['15 min', 900], ['1 hour', 3_600]];

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Points in order of time, with an empty one in each gap, as uPlot takes them. */
export function columns(points) {
  const [at, online, available] = [[], [], []];
  const add = (time, one, other) => {
    at.push(time);
    online.push(one);
    available.push(other);
  };
  let before = null;
  for (const point of points) {
    if (before !== null && point.at - before > GAP_SECONDS) add((before + point.at) / 2, null, null);
    add(point.at, point.online, point.available);
    before = point.at;
  }
  return [at, online, available];
}

export class Chart {
  #points = [];
  #plot = null;
  #seconds = KEPT_SECONDS;
  #now;
  #values;

  /** `now()` is the server's clock, in milliseconds. */
  constructor(now) {
    this.#now = now;
    for (const [label, seconds] of SPANS) {
      const input = make('input', { type: 'radio', name: 'span', value: seconds, checked: seconds === this.#seconds });
      input.addEventListener('change', () => {
        this.#seconds = seconds;
        this.#draw();
      });
      el('spans').append(make('label', {}, input, make('span', { text: label })));
    }
    const key = (word) => {
      const value = make('b', { text: '–' });
      el('chart-key').append(make('span', { class: `key-${word}` }, make('i', { 'aria-hidden': 'true' }), `${word} `, value));
      return value;
    };
    this.#values = { online: key('online'), available: key('available'), at: make('span', { class: 'quiet' }) };
    el('chart-key').append(this.#values.at);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#plot?.redraw(false, true));
    new ResizeObserver(() => this.#plot?.setSize(this.#size())).observe(el('plot'));
  }

  /** The server's last hour. Own points stay: they are closer together. */
  history(points) {
    const told = points.map(({ at, online, available }) => ({ at: Date.parse(at) / 1000, online, available }));
    this.#points = [...told, ...this.#points].sort((one, other) => one.at - other.at);
    this.#draw();
  }

  /** A frame. */
  add({ as_of, counts }) {
    const point = { at: Date.parse(as_of) / 1000, online: counts.online, available: counts.available };
    const last = this.#points.at(-1);
    if (last && point.at <= last.at) return;
    this.#points.push(point);
    while (this.#points[0].at < point.at - KEPT_SECONDS) this.#points.shift();
    this.#draw();
  }

  #size() {
    return { width: el('plot').clientWidth, height: el('plot').clientHeight };
  }

  #window() {
    const end = Math.max(this.#points.at(-1)?.at ?? 0, this.#now() / 1000);
    const first = this.#points[0]?.at ?? end;
    // A young server's chart grows with it, instead of a thin line at the right of an empty hour.
    return [Math.max(end - this.#seconds, Math.min(first, end - SHORTEST_SECONDS)), end];
  }

  #draw() {
    const data = columns(this.#points);
    if (this.#plot) this.#plot.setData(data);
    else if (el('plot').clientWidth > 0) this.#plot = new uPlot(this.#options(), data, el('plot'));
    this.#tell(null);
    mark(el('plot'), 'points', this.#points.length);
  }

  /** The values under the cursor, or the newest. */
  #tell(index) {
    const point = index === null ? this.#points.at(-1) : { at: this.#plot.data[0][index], online: this.#plot.data[1][index], available: this.#plot.data[2][index] };
    say(this.#values.online, String(point?.online ?? '–'));
    say(this.#values.available, String(point?.available ?? '–'));
    say(this.#values.at, index === null || !point ? '' : `at ${clock(point.at * 1000)}`);
  }

  /** A sentence for those who cannot see the lines. */
  describe() {
    const [from] = this.#window();
    const seen = this.#points.filter((point) => point.at >= from);
    if (seen.length === 0) return;
    const range = (of) => `${Math.min(...seen.map(of))} to ${Math.max(...seen.map(of))}`;
    const since = clock(seen[0].at * 1000);
    el('plot').setAttribute('aria-label', `Since ${since}: ${range((point) => point.online)} mitras online, ${range((point) => point.available)} available.`);
  }

  #options() {
    const font = '12px "Plus Jakarta Sans", sans-serif';
    const axis = { stroke: () => colour('--ink-2'), font, ticks: { show: false }, grid: { stroke: () => colour('--line'), width: 1 } };
    const line = (label, name, width, fill) => ({
      label,
      width,
      stroke: () => colour(name),
      fill: fill && (() => colour(name) + fill),
      paths: uPlot.paths.stepped({ align: 1 }),
      points: { show: false },
    });
    return {
      ...this.#size(),
      padding: [12, 4, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 9, width: 2, stroke: () => colour('--surface'), fill: (plot, n) => plot.series[n].stroke() } },
      scales: {
        x: { range: () => this.#window() },
        y: { range: (_plot, _low, high) => [0, Math.max(5, Math.ceil((high ?? 0) * 1.15))] },
      },
      axes: [
        { ...axis, grid: { show: false }, size: 30, space: 90, values: (_plot, ticks, _n, _space, step) => ticks.map((tick) => (step < 60 ? clock : hourAndMinute)(tick * 1000)) },
        { ...axis, size: 38, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000] },
      ],
      series: [{}, line('online', '--indigo', 1.5), line('available', '--leaf', 2, '24')],
      hooks: { setCursor: [(plot) => this.#tell(plot.cursor.idx ?? null)] },
    };
  }
}
