// One document: what was asked, what was written, and how it came about.

import { api, at, get, post } from './api.js';
import { nothing } from './charts.js';
import { lastList } from './documents.js';
import { el } from './dom.js';
import { moment, number, percent, plural, span } from './format.js';
import { action, card, confirmed, diary, figure, pill, table } from './parts.js';

// Whether a person wants to see the texts at once.
const OPEN = 'sections open';
const wantsOpen = () => localStorage.getItem(OPEN) === 'yes';

export async function documentPage(run, id, query, site) {
  const data = await get(api(run, '/documents/' + id));
  const past = query.get('past');
  const shown = past === null ? data : { ...data, ...await get(api(run, `/documents/${id}/past/${past}`)) };
  const { body } = shown, { instruction } = body;
  const name = instruction.id ?? id.slice(0, 8);
  const content = [
    el('div.row.head', el('h1', name), pill(shown.state), past === null ? buttons(run, data) : el('a', { href: at.document(run, id) }, 'This is an earlier round. Go to the latest')),
    neighbours(run, id),
    ending(shown),
    figures(shown, data),
    card('Instruction', el('div.text', instruction.messages.map((message) => el('p', instruction.messages.length > 1 && el('b', message.role + ': '), message.content)))),
    past === null && card('Attempts', timeline(data)),
    sections(run, shown, past === null ? data : null),
    rounds(run, data, past),
    diary(data.actions, data.now_ms, { one: true }),
    provenance(run, shown, site),
  ];
  const list = lastList(run);
  return { title: `${name}: ${shown.state}`, crumbs: [[run, at.run(run)], ['documents', at.documents(run, list?.query ?? {})], [name]], content };
}

const ended = (data) => !['ready', 'leased', 'delayed'].includes(data.state);

function buttons(run, data) {
  const again = async () => {
    if (data.state === 'accepted' && !await confirmed('Write this accepted document anew? Its text goes into the history.', 'Requeue it', true)) return '';
    await post(api(run, '/requeue'), { document: data.id });
    return 'Requeued';
  };
  const cancel = async () => {
    if (!await confirmed('End this document? What is written stays.', 'Cancel it', true)) return '';
    await post(api(run, '/cancel'), { document: data.id });
    return 'Cancelled';
  };
  return el('div.row.right',
    ended(data) && data.reason !== 'bad_row' && action('Requeue', again, data.state === 'accepted' ? '' : '.primary'),
    !ended(data) && action('Cancel', cancel, '.danger'));
}

// Before and after this one in the list that led here. Keys: k and j.
function neighbours(run, id) {
  const ids = lastList(run)?.ids ?? [], place = ids.indexOf(id);
  if (place < 0 || ids.length < 2) return false;
  const step = (to, key, text) => ids[to] ? el('a', { href: at.document(run, ids[to]), 'data-hotkey': key, title: `Key: ${key}` }, text) : el('span.dim', text);
  return el('nav.row.dim', { 'aria-label': 'In this list' }, step(place - 1, 'k', '‹ before'), `${place + 1} of ${ids.length} on the page`, step(place + 1, 'j', 'after ›'));
}

function ending({ state, reason, due_ms, now_ms, body: { progress }, attempts }) {
  const verdict = progress.verdict;
  if (state === 'rejected' && verdict?.rule) {
    return el('p.error.box', el('b', `Rejected by ${verdict.rule}: `), `${verdict.detail} (measured ${+verdict.value.toFixed(2)}, threshold ${verdict.threshold})`);
  }
  if (state === 'failed') {
    return el('p.error.box', el('b', `${reason}: `), progress.message ?? 'its leases ran out again and again: each worker that had it was not heard of any more');
  }
  const last = attempts?.at(-1);
  if (state === 'delayed') return el('p.box', `Tried again in ${span(due_ms - now_ms)}. The last try: `, el('span.error', fault(last)));
  return state === 'ready' && last?.end === 'error' && el('p.box', 'Waits for another try. The last one: ', el('span.error', fault(last)));
}

const fault = (attempt) => {
  const error = attempt?.detail.error;
  return error ? [error.class, error.message ?? error].filter(Boolean).join(': ') : '';
};

function figures({ body, state }, { attempts, history, lease }) {
  const sections = body.progress.sections ?? [], plan = body.progress.plan?.steps ?? [], { usage = { prompt: 0, cached: 0, generated: 0 } } = body;
  const words = sections.reduce((sum, section) => sum + section.words, 0), asked = body.instruction.required_words;
  return el('div.figures',
    figure(number(words), 'words', asked && `${number(asked)} asked for`),
    figure(`${sections.length} / ${plan.length || '?'}`, 'sections', state === 'leased' && lease && `writing: ${plural(lease.progress, 'token')} so far`),
    figure(number(usage.generated), 'tokens written', 'in all attempts'),
    figure(percent(usage.cached, usage.prompt), 'of prompts from cache', usage.prompt > 0 && `${number(usage.prompt - usage.cached)} computed`),
    figure(number(attempts.length + (lease ? 1 : 0)), 'attempts', history.length > 0 && `requeued ${plural(history.length, 'time')}`));
}

const TASKS = { plan: () => 'Plan', section: (n) => `Section ${n + 1}`, summary: (n) => `Summary ${n + 1}`, judge: () => 'Judge' };

function timeline(data) {
  const all = data.attempts.map((attempt) => ({ ...attempt, what: TASKS[attempt.detail.kind]?.(attempt.detail.section) ?? 'Attempt' }));
  if (data.lease) {
    const { worker, granted_ms, progress } = data.lease;
    all.push({ worker, granted_ms, ended_ms: data.now_ms, end: 'running', what: 'Now', detail: { usage: { generated: progress } } });
  }
  if (!all.length) return nothing('No worker has had it yet.');
  const lanes = places(all);
  return table(['Task', 'End', 'Time, long waits cut short', '#Took', '#Tokens', '-#Prompt', '-#Cached', '-Worker'], all.map((attempt, n) => {
    const { usage, finish_reason, revoked } = attempt.detail, took = attempt.ended_ms - attempt.granted_ms;
    const title = `${moment(attempt.granted_ms)}, ${span(took)}`;
    return el('tr', { 'data-key': `attempt ${n}` }, el('td', attempt.what),
      el('td', pill('end-' + attempt.end, attempt.end), finish_reason && finish_reason !== 'stop' && el('span.dim', ' ' + finish_reason),
        revoked && el('span.dim', ' taken back by hand'), fault(attempt) && el('div.error', fault(attempt))),
      el('td.lane', el('i.end-' + attempt.end, { title, style: { 'margin-left': `${lanes[n].from}%`, width: `max(3px, ${lanes[n].wide}%)` } })),
      el('td.n', span(took)), el('td.n', usage ? number(usage.generated) : '–'),
      el('td.n.wide', usage?.prompt ? number(usage.prompt) : '–'), el('td.n.wide', usage?.prompt ? percent(usage.cached, usage.prompt) : '–'),
      el('td.dim.clip.wide', { title: attempt.worker }, attempt.worker));
  }));
}

// Where each attempt stands on the time line, in percent. A document has one at a time; a night between two rounds would
// leave the rest too small to see.
function places(attempts) {
  const busy = attempts.reduce((sum, attempt) => sum + attempt.ended_ms - attempt.granted_ms, 0) || 1;
  let end = attempts[0].granted_ms, at = 0;
  const found = attempts.map(({ granted_ms, ended_ms }) => {
    const from = at + Math.min(Math.max(granted_ms - end, 0), busy / 20);
    [end, at] = [ended_ms, from + ended_ms - granted_ms];
    return { from, wide: ended_ms - granted_ms };
  });
  const whole = at || 1;
  return found.map(({ from, wide }) => ({ from: (100 * from) / whole, wide: (100 * wide) / whole }));
}

// `data` is none for an earlier round, which is only looked at.
function sections(run, { body }, data) {
  const plan = body.progress.plan?.steps ?? [];
  if (!plan.length) return false;
  const written = body.progress.sections ?? [];
  const toggle = () => {
    localStorage.setItem(OPEN, wantsOpen() ? 'no' : 'yes');
    for (const section of document.querySelectorAll('details.section')) section.open = wantsOpen();
    return '';
  };
  return el('section.card', el('div.row', el('h2', 'Plan and text'), written.length > 0 && action(wantsOpen() ? 'Close all' : 'Open all', toggle, '.right.small')),
    plan.map((step, n) => section(run, step, n, written[n], data, n === written.length)));
}

function section(run, step, n, written, data, next) {
  const again = (only) => async () => {
    await post(api(run, '/requeue'), { document: data.id, from_section: n + 1, only });
    return `Requeued from section ${n + 1}`;
  };
  const words = written ? `${number(written.words)} of ${number(step.words)} words` : `${number(step.words)} words to write`;
  const lease = data?.state === 'leased' && next ? data.lease : null;
  const head = [el('b', `${n + 1}.`), el('span.point', step.main_point), el('span.dim.n', lease ? `being written: ${plural(lease.progress, 'token')}` : words)];
  if (!written) return el('div.section.row', { 'data-key': `section ${n}` }, head);
  const { finish_reason, attempt, usage, worker } = written;
  return el('details.section', { 'data-key': `section ${n}`, open: wantsOpen() }, el('summary', head),
    el('div.row.dim.meta', `finished by ${finish_reason}, attempt ${attempt}, ${plural(usage.generated, 'token')}, prompt ${number(usage.cached)} cached and ${number(usage.prompt - usage.cached)} computed, ${worker}`,
      data && ended(data) && [action('Write from here again', again(false), '.small'), action('Only this one', again(true), '.small')]),
    el('div.text', written.text.split(/\n{2,}/).map((paragraph) => el('p', paragraph))));
}

function rounds(run, data, past) {
  if (!data.history.length) return false;
  return card('Before it was requeued', table(['Round', 'State', '#Sections', '#Words', ''], data.history.map((round, n) => el('tr', { 'data-key': `round ${n}` },
    el('td', String(n + 1)), el('td', pill(round.state), round.reason && el('span.dim', ' ' + round.reason)), el('td.n', number(round.sections)), el('td.n', number(round.words)),
    el('td.n', past === String(n) ? 'shown above' : el('a', { href: `${at.document(run, data.id)}?past=${n}` }, 'Look'))))));
}

function provenance(run, { id, body }, site) {
  const [, trace, , sampled] = (body.traceparent || '').split('-');
  const viewer = trace && site.trace_url?.replaceAll('{trace}', encodeURIComponent(trace));
  const traced = [viewer ? el('a', { href: viewer, target: '_blank', rel: 'noopener' }, trace) : trace || 'not traced',
    sampled === '00' && ' (not sampled: only errors are there)'];
  const { model, instruction } = body;
  const rows = [['Document', id], ['Trace', traced], ['Seed', body.seed], ['Candidate', body.candidate ?? 0], ['Round', body.round ?? 0],
    ['Model', model ? `${model.name} on ${model.device}, ${model.engine}` : '–'], ['Weights', model?.weights_hash || '–'], ['Tokenizer', model?.tokenizer_hash || '–'],
    ['Licence', model?.licence || '–'], ['Language', instruction.language], ['Input line', instruction.line]];
  if (Object.keys(instruction.metadata ?? {}).length) rows.push(['Metadata', JSON.stringify(instruction.metadata)]);
  return card('Provenance', el('dl', rows.map(([name, value]) => [el('dt', name), el('dd', Array.isArray(value) ? value : String(value))])));
}
