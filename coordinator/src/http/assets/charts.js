// Charts: shapes in an SVG that stretches, labels as text around it; both stay sharp at every width.

import { el } from './dom.js';
import { clock, number, plural, short } from './format.js';

// The next round number above.
function nice(max) {
  const unit = 10 ** Math.floor(Math.log10(Math.max(max, 1)));
  return [1, 2, 2.5, 5, 10].map((times) => times * unit).find((value) => value >= max) ?? max;
}

// `axes`: what the values up and along are.
function frame(label, axes, top, below, shapes) {
  const grid = [0, 0.5].map((y) => el('line.grid', { x1: 0, x2: 100, y1: 100 * y, y2: 100 * y }));
  return el('figure.chart', { role: 'img', 'aria-label': label },
    el('div.axis', { 'aria-hidden': 'true' }, axes[0]),
    el('div.scale', { 'aria-hidden': 'true' }, el('span', short(top)), el('span', top < 10 ? String(top / 2) : short(top / 2)), el('span', '0')),
    el('svg.plot', { viewBox: '0 0 100 100', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, grid, shapes),
    el('div.below', { 'aria-hidden': 'true' }, below.map((text) => el('span', text))),
    axes[1] && el('div.along', { 'aria-hidden': 'true' }, axes[1]));
}

export const empty = (text) => el('p.dim.empty', text);

// A value over time; `valueOf` computes it from a point.
export function curve(unit, plot, valueOf) {
  const values = plot.points.map((point) => valueOf(point, plot.step_ms));
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
  return frame(`${unit} over time: latest ${number(values.at(-1))}, highest ${number(highest)}`, [unit], top, below,
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
  return frame('Documents by length score, 0 to 100', ['documents', 'length score'], top, ['0', '50', '100'], bars(values, top, 'bar', title));
}

const SIDE = 300;
const TICKS = [100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000];

// A dot for each document: words written over words requested, both on a logarithmic scale.
export function lengths({ dots, documents }) {
  const all = dots.flatMap(([asked, written]) => [asked, Math.max(written, 1)]);
  const from = Math.log(Math.max(10, Math.min(...all)) * 0.8), to = Math.log(Math.max(100, ...all) * 1.25);
  const x = (words) => ((Math.log(words) - from) / (to - from)) * SIDE, y = (words) => SIDE - x(words);
  const low = Math.exp(from), high = Math.exp(to);
  const ray = (kind, share) => {
    const [left, right] = [Math.max(low, low / share), Math.min(high, high / share)];
    return el('line.' + kind, { x1: x(left), y1: y(left * share), x2: x(right), y2: y(right * share) });
  };
  const grid = TICKS.filter((tick) => tick > low && tick < high).map((tick) => [
    el('line.grid', { x1: 0, x2: SIDE, y1: y(tick), y2: y(tick) }), el('line.grid', { y1: 0, y2: SIDE, x1: x(tick), x2: x(tick) }),
    el('text', { x: -6, y: y(tick) + 4, 'text-anchor': 'end' }, short(tick)), el('text', { x: x(tick), y: SIDE + 15, 'text-anchor': 'middle' }, short(tick))]);
  // Where S_l is 80: five sevenths and eight fifths of the request.
  return el('figure.dots', { role: 'img', 'aria-label': `Words written over words requested, ${plural(documents, 'document')}` },
    el('svg', { viewBox: `-62 -6 ${SIDE + 70} ${SIDE + 44}`, 'aria-hidden': 'true' }, grid, ray('asked', 1), ray('bound', 5 / 7), ray('bound', 1.6),
      dots.map(([asked, written, accepted]) => el('circle.' + (accepted ? 'accepted' : 'rejected'), { cx: x(asked).toFixed(1), cy: y(Math.max(written, 1)).toFixed(1), r: 3 },
        el('title', `${number(asked)} words requested, ${number(written)} written`))),
      el('text', { x: SIDE / 2, y: SIDE + 33, 'text-anchor': 'middle' }, 'words requested'),
      el('text', { transform: `translate(-50 ${SIDE / 2}) rotate(-90)`, 'text-anchor': 'middle' }, 'words written')),
    el('figcaption.key', el('span', el('i.accepted'), 'accepted'), el('span', el('i.rejected'), 'not accepted'), el('span', 'Solid: as requested. Between the dashed lines S_l is 80 or more.')));
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
