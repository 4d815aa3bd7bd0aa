// The workers of all runs.

import { at, get, post } from './api.js';
import { meter } from './charts.js';
import { el } from './dom.js';
import { ago, number, percent, plural, span } from './format.js';
import { action, activity, confirmed, figure, pill, table } from './parts.js';

// A worker sends a heartbeat at least every five seconds.
const SILENT_MS = 20000;

function stateOf(worker, now, lease) {
  const silent = now - worker.seen_ms;
  if (silent > SILENT_MS && (worker.drain || worker.vitals.draining)) return pill('cancelled', 'stopped');
  if (silent > Math.max(lease, SILENT_MS)) return pill('failed', 'lost');
  if (silent > SILENT_MS) return pill('rejected', 'silent');
  if (worker.drain || worker.vitals.draining) return pill('delayed', 'draining');
  return worker.vitals.held ? pill('leased', 'busy') : pill('ready', 'idle');
}

export async function workersPage() {
  const data = await get('/api/workers');
  const active = data.workers.filter((worker) => data.now_ms - worker.seen_ms <= SILENT_MS);
  const inactive = data.workers.filter((worker) => !active.includes(worker)).sort((a, b) => b.seen_ms - a.seen_ms);
  const sum = (field) => active.reduce((total, worker) => total + worker.vitals[field], 0);
  const content = [
    el('h1', 'Workers'),
    data.workers.length === 0 && el('p', 'No worker was seen in the last hour. Start one: ', el('code', 'longhand worker --model model.gguf')),
    data.workers.length > 0 && el('div.figures',
      figure(number(active.length), active.length === 1 ? 'worker' : 'workers', inactive.length > 0 && `${number(inactive.length)} silent or stopped`),
      figure(`${number(sum('held'))} / ${number(sum('slots'))}`, 'slots in use'),
      figure(number(sum('tokens_per_second')), 'tokens/s', 'all workers')),
    data.workers.length > 0 && table(['Worker', 'State', '-Slots', '-KV cache', '#Tokens/s', '-#Completed', '-#Failed', '-#Lost', '-#Last seen', ''],
      [...active, ...inactive].map((worker) => row(worker, data))),
    data.total > data.workers.length && el('p.dim', `${number(data.total - data.workers.length)} more not shown.`),
    activity(data.actions, data.now_ms),
  ];
  return { title: 'Workers', crumbs: [['workers']], content };
}

function row({ id, vitals, seen_ms, drain, inside: embedded }, data) {
  const { model } = vitals, silent = data.now_ms - seen_ms > SILENT_MS;
  const drainWorker = async () => {
    if (!await confirmed(`Drain ${id}? It returns ${plural(vitals.held, 'unfinished task')} to the queue and exits.`, { yes: 'Drain worker', danger: true })) return '';
    await post(`/api/workers/${encodeURIComponent(id)}/drain`);
    return `Drain of ${id} requested`;
  };
  const blocks = vitals.kv_blocks && `${number(vitals.kv_blocks_used)} of ${number(vitals.kv_blocks)} blocks`;
  return el('tr' + (silent ? '.stale' : ''), { 'data-key': id },
    el('td', el('b', id), embedded && el('span.dim', ' embedded'), el('div.dim', [model.name, model.device, model.engine, `up ${span(vitals.uptime_ms)}`].filter(Boolean).join(', ')),
      el('div.dim.narrow', `${plural(vitals.held, 'slot')} of ${number(vitals.slots)} in use, seen ${ago(seen_ms, data.now_ms)}`),
      data.runs.length > 0 && !silent && el('div', data.runs.slice(0, 3).map((run) => [el('a', { href: at.documents(run, { worker: id }) }, `documents of ${run}`), ' ']))),
    el('td', stateOf({ vitals, seen_ms, drain }, data.now_ms, data.lease_ms)),
    el('td.nowrap.wide', meter(vitals.held, vitals.slots, `${vitals.held} of ${plural(vitals.slots, 'slot')}`), ` ${vitals.held}/${vitals.slots}`, vitals.waiting > 0 && el('div.dim', `${vitals.waiting} waiting for memory`)),
    el('td.nowrap.wide', blocks ? [meter(vitals.kv_blocks_used, vitals.kv_blocks, blocks), ` ${percent(vitals.kv_blocks_used, vitals.kv_blocks)}`] : el('span.dim', 'not reported')),
    el('td.n', silent ? '–' : number(vitals.tokens_per_second)),
    el('td.n.wide', number(vitals.completed)), el('td.n.wide', number(vitals.failed)), el('td.n.wide', number(vitals.lost)),
    el('td.n.wide', ago(seen_ms, data.now_ms)),
    el('td.n', !embedded && !silent && !drain && !vitals.draining && action('Drain', drainWorker)));
}
