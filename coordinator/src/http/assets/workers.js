// The workers of all runs.

import { at, get, post } from './api.js';
import { meter } from './charts.js';
import { el } from './dom.js';
import { ago, number, percent, plural, span } from './format.js';
import { action, confirmed, diary, figure, pill, table } from './parts.js';

// A worker speaks every five seconds, or more often.
const SILENT_MS = 20000;

function stateOf(worker, now, lease) {
  const silent = now - worker.seen_ms;
  if (silent > SILENT_MS && (worker.drain || worker.vitals.draining)) return pill('cancelled', 'ended');
  if (silent > Math.max(lease, SILENT_MS)) return pill('failed', 'gone');
  if (silent > SILENT_MS) return pill('rejected', 'silent');
  if (worker.drain || worker.vitals.draining) return pill('delayed', 'draining');
  return worker.vitals.held ? pill('leased', 'writing') : pill('ready', 'idle');
}

export async function workersPage() {
  const data = await get('/api/workers');
  const here = data.workers.filter((worker) => data.now_ms - worker.seen_ms <= SILENT_MS);
  const gone = data.workers.filter((worker) => !here.includes(worker)).sort((a, b) => b.seen_ms - a.seen_ms);
  const sum = (field) => here.reduce((total, worker) => total + worker.vitals[field], 0);
  const content = [
    el('h1', 'Workers'),
    data.workers.length === 0 && el('p', 'None has spoken within the last hour. Start one: ', el('code', 'longhand worker --model model.gguf')),
    data.workers.length > 0 && el('div.figures',
      figure(number(here.length), here.length === 1 ? 'worker' : 'workers', gone.length > 0 && `${number(gone.length)} silent or ended`),
      figure(`${number(sum('held'))} / ${number(sum('slots'))}`, 'slots in use'),
      figure(number(sum('tokens_per_second')), 'tokens a second', 'together, now')),
    data.workers.length > 0 && table(['Worker', 'State', 'Slots', '-Memory for keys and values', '#Tokens/s', '-#Handed in', '-#Failed', '-#Lost', '#Last word', ''],
      [...here, ...gone].map((worker) => row(worker, data))),
    data.total > data.workers.length && el('p.dim', `${number(data.total - data.workers.length)} more are not shown.`),
    diary(data.actions, data.now_ms),
  ];
  return { title: 'Workers', crumbs: [['workers']], content };
}

function row({ id, vitals, seen_ms, drain, inside }, data) {
  const { model } = vitals, silent = data.now_ms - seen_ms > SILENT_MS;
  const ask = async () => {
    if (!await confirmed(`Drain ${id}? It hands its ${plural(vitals.held, 'unfinished text')} back, and ends.`, 'Drain it', true)) return '';
    await post(`/api/workers/${encodeURIComponent(id)}/drain`);
    return `${id} is asked to drain`;
  };
  const blocks = vitals.kv_blocks && `${number(vitals.kv_blocks_used)} of ${number(vitals.kv_blocks)} blocks`;
  return el('tr' + (silent ? '.old' : ''), { 'data-key': id },
    el('td', el('b', id), inside && el('span.dim', ' in this process'), el('div.dim', [model.name, model.device, model.engine, `up ${span(vitals.uptime_ms)}`].filter(Boolean).join(', ')),
      data.runs.length > 0 && !silent && el('div', data.runs.slice(0, 3).map((run) => [el('a', { href: at.documents(run, { worker: id }) }, `documents of ${run}`), ' ']))),
    el('td', stateOf({ vitals, seen_ms, drain }, data.now_ms, data.lease_ms)),
    el('td.nowrap', meter(vitals.held, vitals.slots, `${vitals.held} of ${plural(vitals.slots, 'slot')}`), ` ${vitals.held}/${vitals.slots}`, vitals.waiting > 0 && el('div.dim', `${vitals.waiting} wait for memory`)),
    el('td.nowrap.wide', blocks ? [meter(vitals.kv_blocks_used, vitals.kv_blocks, blocks), ` ${percent(vitals.kv_blocks_used, vitals.kv_blocks)}`] : el('span.dim', 'the engine does not say')),
    el('td.n', silent ? '–' : number(vitals.tokens_per_second)),
    el('td.n.wide', number(vitals.completed)), el('td.n.wide', number(vitals.failed)), el('td.n.wide', number(vitals.lost)),
    el('td.n', ago(seen_ms, data.now_ms)),
    el('td.n', !inside && !silent && !drain && !vitals.draining && action('Drain', ask)));
}
