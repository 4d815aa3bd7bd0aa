// Charts: shapes in an SVG that stretches, labels as text around it; both stay sharp at every width.

import { el } from './dom.js';
import { clock, number, plural, short } from './format.js';

// The next round number above.
function nice(max) {
  const unit = 10 ** Math.floor(Math.log10(Math.max(max, 1)));
  return [1, 2, 2.5, 5, 10].map((times) => times * unit).find((value) => value >= max) ?? max;
}

function frame(label, top, below, shapes, more) {
  const grid = [0, 0.5].map((y) => el('line.grid', { x1: 0, x2: 100, y1: 100 * y, y2: 100 * y }));
  return el('figure.chart', { role: 'img', 'aria-label': label },
    el('div.scale', { 'aria-hidden': 'true' }, el('span', short(top)), el('span', top < 10 ? String(top / 2) : short(top / 2)), el('span', '0')),
    el('svg.plot', { viewBox: '0 0 100 100', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, grid, shapes),
    el('div.below', { 'aria-hidden': 'true' }, below.map((text) => el('span', text))), more);
}

export const empty = (text) => el('p.dim.empty', text);

// A value over time; `valueOf` computes it from a point.
export function curve(unit, plot, valueOf) {
  const values = plot.points.map((point) => valueOf(point, plot.step_ms));
  if (values.length < 2) return empty('Not enough data yet.');
  const highest = Math.max(...values);
  const top = nice(highest);
  const x = (i) => (100 * i) / (values.length - 1), y = (value) => 100 * (1 - value / top);
  const line = values.map((value, i) => `${i ? 'L' : 'M'}${x(i).toFixed(2)} ${y(value).toFixed(2)}`).join('');
  const wide = 100 / values.length;
  const brief = plot.step_ms * values.length < 1_800_000;
  const time = (i) => clock(plot.from_ms + plot.step_ms * i, brief);
  // Each interval shows its value as a tooltip.
  const tooltips = values.map((value, i) => el('rect.hover', { x: (i * wide).toFixed(2), y: 0, width: wide.toFixed(2), height: 100 },
    el('title', `${time(i)}: ${number(value)} ${unit}`)));
  const below = [time(0), time(values.length / 2), time(values.length)];
  return frame(`${unit} over time: latest ${number(values.at(-1))}, highest ${number(highest)}`, top, below,
    [el('path.area', { d: `${line}L100 100L0 100Z` }), el('path.line', { d: line }), tooltips]);
}

// One bar for each value; `title(i, value)` is its tooltip.
function bars(values, top, kind, title) {
  const wide = 100 / values.length;
  return values.map((value, i) => el('rect.' + kind, {
    x: (i * wide + wide * 0.08).toFixed(2), width: (wide * 0.84).toFixed(2), y: (100 * (1 - value / top)).toFixed(2),
    height: ((100 * value) / top).toFixed(2) }, el('title', title(i, value))));
}

export function scores(values) {
  const top = nice(Math.max(...values));
  const title = (i, value) => `S_l ${i * 10} to ${i * 10 + 10}: ${plural(value, 'document')}`;
  return frame('Documents by length score, 0 to 100', top, ['0', '50', 'S_l 100'], bars(values, top, 'bar', title));
}

export function lengths({ step, asked, written }) {
  const top = nice(Math.max(...asked, ...written));
  const range = (i) => `${number(i * step)} to ${number((i + 1) * step)} words`;
  const shapes = [bars(written, top, 'bar', (i, n) => `${range(i)}: ${plural(n, 'document')} written`),
    bars(asked, top, 'asked', (i, n) => `${range(i)}: ${plural(n, 'document')} requested, ${number(written[i])} written`)];
  const end = asked.length * step;
  return frame('Documents by length: written and requested', top, ['0', short(end / 2), `${short(end)} words`], shapes,
    el('figcaption.key', el('span', el('i.bar'), 'written'), el('span', el('i.asked'), 'requested')));
}

// Parts of a whole: [[class, value, label], ...].
export function stack(label, parts) {
  const total = parts.reduce((sum, [, value]) => sum + value, 0) || 1;
  return el('div.progress', { role: 'img', 'aria-label': `${label}: ` + parts.map(([, value, label]) => `${number(value)} ${label}`).join(', ') },
    parts.filter(([, value]) => value).map(([kind, value, name]) =>
      el('i.' + kind, { style: { 'flex-grow': value / total }, title: `${number(value)} ${name}` })));
}

// A small bar in a table.
export const meter = (part, whole, title) =>
  el('span.meter', { title, role: 'img', 'aria-label': title }, el('i', { style: { width: `${whole > 0 ? Math.min(100, (100 * part) / whole) : 0}%` } }));
