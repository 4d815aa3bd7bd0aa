// A run's documents: filter, search, page.

import { api, at, get, post } from './api.js';
import { meter } from './charts.js';
import { el } from './dom.js';
import { number, plural, span } from './format.js';
import { action, link, stateLabel, nameOf, pill, requeueAll, STATES, table } from './parts.js';

const FIELDS = ['state', 'reason', 'error', 'worker', 'q', 'min', 'max'];
const ORDERS = [['', 'submission order'], ['changed', 'last changed'], ['time', 'slowest'], ['words', 'longest'], ['shortest', 'shortest'],
  ['score', 'lowest length score'], ['tries', 'most errors']];
const list = (run) => 'list ' + run;

// The list that a document's page links back to, and its neighbours in it.
export function lastList(run) {
  try {
    return JSON.parse(sessionStorage.getItem(list(run)));
  } catch {
    return null;
  }
}

export async function documentsPage(run, query, navigate) {
  const data = await get(api(run, '/documents?' + query));
  const current = Object.fromEntries(query);
  sessionStorage.setItem(list(run), JSON.stringify({ query: current, ids: data.items.map((line) => line.id) }));
  const filter = Object.fromEntries(FIELDS.filter((field) => current[field]).map((field) => [field, current[field]]));
  for (const field of ['min', 'max']) if (field in filter) filter[field] = Number(filter[field]);
  const filtered = Object.keys(filter).length > 0;
  const go = (change) => {
    const next = { ...current, ...change };
    if (!('page' in change)) delete next.page;
    for (const [field, value] of Object.entries(next)) if (value === '') delete next[field];
    navigate(at.documents(run, next), 'page' in change);
  };
  // What a finished folder does not hold gets no column.
  const has = { time: data.items.some((line) => line.spent_ms), worker: data.items.some((line) => line.worker) };
  const columns = ['Document', 'State', '-Sections', '#Words', '-#Requested', '-#S_l', has.time && '-#Time', has.worker && '-Worker', ''].filter((name) => name !== false);
  const content = [
    el('div.row.head', el('h1', 'Documents'), el('span.dim', { role: 'status' }, filtered ? `${plural(data.total, 'document')} of ${number(data.listed)}` : plural(data.total, 'document'),
      !data.complete && ', loading'),
      el('div.row.right', filtered && data.total > 0 && action('Requeue matching', requeueAll(run, filter, describe(filter))))),
    form(current, data, go),
    data.items.length
      ? table(columns, data.items.map((line) => row(run, line, data.candidates, has)))
      : el('p.dim.empty', filtered ? ['No matching documents. ', el('a', { href: at.documents(run) }, 'Show all.')] : 'This run has no documents yet.'),
    data.pages > 1 && pager(data, go),
  ];
  return { title: `${run}: documents`, crumbs: [[run, at.run(run)], ['documents']], content };
}

const describe = (filter) => Object.entries(filter).map(([field, value]) => `${{ q: 'text', min: 'min words', max: 'max words' }[field] ?? field} ${field === 'state' ? stateLabel(value) : value}`).join(', ');

let typing = 0;
function form(current, data, go) {
  const pick = (key, label, options) => el('label', label, el('select', { id: 'f-' + key, value: current[key] ?? '', onchange: (event) => go({ [key]: event.target.value }) },
    options.map(([value, text]) => el('option', { value }, text))));
  const type = (key, label, kind, more = {}) => el('label', label, el('input.' + key, { id: 'f-' + key, type: kind, value: current[key] ?? '', ...more, oninput: (event) => {
    clearTimeout(typing);
    const { value, validity } = event.target;
    if (validity.valid) typing = setTimeout(() => go({ [key]: value }), 250);
  } }));
  const of = (all, values) => [['', all], ...values.map((value) => [value, value])];
  // The selected value stays an option when no document has it any more.
  const withCurrent = (key, values) => (current[key] && !values.includes(current[key]) ? [current[key], ...values] : values);
  return el('div.filters', { role: 'search' },
    type('q', 'Search', 'search', { title: 'ID, start of the instruction, or error message. Shortcut: /', placeholder: 'ID, instruction, error', autocomplete: 'off' }),
    pick('state', 'State', [['', 'all'], ...STATES.map((state) => [state, stateLabel(state)])]),
    pick('reason', 'Rule or cause', of('all', withCurrent('reason', data.reasons))),
    pick('error', 'Error', of('all', withCurrent('error', data.errors))),
    pick('worker', 'Last worker', of('all', withCurrent('worker', data.workers))),
    type('min', 'Min words', 'number', { min: 0 }), type('max', 'Max words', 'number', { min: 0 }),
    pick('sort', 'Order', ORDERS));
}

function row(run, line, numbered, has) {
  const canRequeue = ['failed', 'rejected', 'cancelled'].includes(line.state) && line.reason !== 'bad_row';
  return el('tr', { 'data-key': line.id },
    el('td', link(run, line.id, nameOf(line, numbered)), el('div.dim.clip' + (has.worker ? '' : '.roomy'), { title: line.title }, line.title)),
    el('td', pill(line.state), line.reason && el('div.dim', line.reason), line.message && el('div.dim.clip.wide', { title: line.message }, line.message)),
    el('td.nowrap.wide', line.steps ? [meter(line.sections, line.steps, `${line.sections} of ${line.steps} sections`), ` ${line.sections}/${line.steps}`] : el('span.dim', '–')),
    el('td.n', line.words ? number(line.words) : '–'),
    el('td.n.wide', line.target ? number(line.target) : '–'),
    el('td.n.wide', line.score === null ? '–' : line.score.toFixed(0)),
    has.time && el('td.n.wide', line.spent_ms ? span(line.spent_ms) : '–', line.tries > 0 && el('div.dim', plural(line.tries, 'error'))),
    has.worker && el('td.dim.clip.wide', { title: line.worker }, line.worker),
    el('td.n', canRequeue && action('Requeue', async () => {
      await post(api(run, '/requeue'), { document: line.id });
      return `${nameOf(line)} requeued`;
    })));
}

const pager = (data, go) => el('nav.row.pages', { 'aria-label': 'Pages' },
  el('button', { type: 'button', disabled: data.page === 0, onclick: () => go({ page: data.page - 1 || '' }) }, '‹ Previous'),
  el('span', `Page ${number(data.page + 1)} of ${number(data.pages)}`),
  el('button', { type: 'button', disabled: data.page + 1 >= data.pages, onclick: () => go({ page: data.page + 1 }) }, 'Next ›'));
