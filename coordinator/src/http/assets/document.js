// One document: instruction, text, attempts and provenance.

import { api, at, get, post } from './api.js';
import { empty } from './charts.js';
import { lastList } from './documents.js';
import { el } from './dom.js';
import { moment, number, percent, plural, span } from './format.js';
import { action, activity, button, card, confirmed, figure, pill, table } from './parts.js';

// Whether the user wants the sections expanded.
const OPEN = 'sections open';
const wantsOpen = () => localStorage.getItem(OPEN) !== 'no';

export async function documentPage(run, id, query, site) {
  const data = await get(api(run, '/documents/' + id));
  const revision = query.get('past');
  const shown = revision === null ? data : { ...data, ...await get(api(run, `/documents/${id}/past/${encodeURIComponent(revision)}`)) };
  const beside = query.get('with');
  const other = beside && data.candidates.some((one) => one.id === beside) ? await get(api(run, '/documents/' + beside)) : null;
  const { body } = shown, { instruction } = body;
  const numbered = data.candidates.length > 1;
  const name = (instruction.id ?? id.slice(0, 8)) + (numbered ? ` · ${(body.candidate ?? 0) + 1}` : '');
  const content = [
    el('div.row.head', el('h1', name), pill(shown.state), revision === null ? buttons(run, data) : el('a', { href: at.document(run, id) }, 'This is an earlier revision. Show the latest')),
    neighbours(run, id),
    candidates(run, data),
    other ? el('div.sides', [data, other].map((one) => side(run, one))) : [outcome(shown),
    figures(shown, data),
    el('div.reading',
      el('div', sections(run, shown, revision === null ? data : null)),
      el('div', card('Instruction', el('div.text', instruction.messages.map((message) => el('p', instruction.messages.length > 1 && el('b', message.role + ': '), message.content)))),
        revision === null && rules(data.measures)))],
    revision === null && card('Attempts', timeline(data)),
    revisions(run, data, revision),
    activity(data.actions, data.now_ms, { one: true }),
    provenance(run, shown, site),
  ];
  const list = lastList(run);
  return { title: `${name}: ${shown.state}`, crumbs: [[run, at.run(run)], ['documents', at.documents(run, list?.query ?? {})], [name]], content };
}

const isTerminal = (data) => !['ready', 'leased', 'delayed'].includes(data.state);

function buttons(run, data) {
  const copy = async () => {
    await navigator.clipboard.writeText(data.body.progress.sections.map((section) => section.text).join('\n\n'));
    return 'Text copied';
  };
  const requeue = async () => {
    const question = 'Rewrite this accepted document? Its current text is kept as a revision.';
    if (data.state === 'accepted' && !await confirmed(question, { yes: 'Requeue document', danger: true })) return '';
    await post(api(run, '/requeue'), { document: data.id });
    return 'Requeued';
  };
  const cancel = async () => {
    const question = 'Cancel this document? Text written so far is kept.';
    if (!await confirmed(question, { yes: 'Cancel document', no: 'Keep running', danger: true })) return '';
    await post(api(run, '/cancel'), { document: data.id });
    return 'Cancelled';
  };
  const written = data.body.progress.sections?.length > 0;
  return el('div.row.right',
    // A browser gives the clipboard to pages of this machine and of TLS only.
    written && navigator.clipboard && button('Copy text', copy),
    written && el('a.button', { href: at.text(run, data.id), download: true }, 'Download'),
    isTerminal(data) && data.reason !== 'bad_row' && action('Requeue', requeue, data.state === 'accepted' ? '' : '.primary'),
    !isTerminal(data) && action('Cancel', cancel, '.danger'));
}

// Previous and next document in the list that led here. Keys: k and j.
function neighbours(run, id) {
  const ids = lastList(run)?.ids ?? [], index = ids.indexOf(id);
  if (index < 0 || ids.length < 2) return false;
  const step = (to, key, text) => ids[to] ? el('a', { href: at.document(run, ids[to]), 'data-hotkey': key, title: `Shortcut: ${key}` }, text) : el('span.dim', text);
  return el('nav.row.dim', { 'aria-label': 'Documents in this list' }, step(index - 1, 'k', '‹ Previous'), `${index + 1} of ${ids.length} on this page`, step(index + 1, 'j', 'Next ›'));
}

// The other documents of the same instruction.
function candidates(run, { id, candidates: all }) {
  if (all.length < 2) return false;
  return el('nav.row', { 'aria-label': 'Candidates' }, el('span.dim', 'Candidates:'), all.map((one) => {
    const text = [`${one.candidate + 1} `, pill(one.state), one.score !== null && el('span.dim', ` S_l ${one.score.toFixed(0)}`)];
    return one.id === id ? el('b', { 'aria-current': 'page' }, text)
      : el('span', el('a', { href: at.document(run, one.id) }, text), ' ', el('a.dim', { href: `${at.document(run, id)}?with=${one.id}`, title: 'Read both texts side by side' }, 'compare'));
  }));
}

// One of two candidates that are read side by side.
function side(run, { id, state, reason, body, measures }) {
  const sections = body.progress.sections ?? [], words = sections.reduce((sum, section) => sum + section.words, 0);
  return card(el('a', { href: at.document(run, id) }, `Candidate ${(body.candidate ?? 0) + 1}`), el('div.row', pill(state), reason && el('span.dim', reason), el('span.dim', plural(words, 'word'))),
    el('div.text', sections.map((section) => section.text.split(/\n{2,}/).map((paragraph) => el('p', marked(paragraph, measures))))));
}

// What every rule measured.
function rules(measures) {
  const value = (n) => String(+n.toFixed(3));
  const rows = [...measures].sort((a, b) => b.fired - a.fired);
  return rows.length > 0 && card('Rules', table(['Rule', '#Value', '#Threshold'], rows.map(({ rule, measures: what, value: n, threshold, least, fired, detail }) =>
    el('tr', { 'data-key': 'rule ' + rule }, el('td', { title: what }, fired ? el('b.error', rule) : rule, detail && el('div.seen', detail)), el('td.n', value(n)),
      el('td.n', `${least ? '≥' : '≤'} ${value(threshold)}`)))));
}

// The part of a rule's detail that stands in the text: details quote it, cut with "…" and with words before a colon.
function excerptOf(detail, text) {
  for (const part of [detail, detail.slice(detail.indexOf(': ') + 2)]) {
    const quoted = part.replace(/^…|…$/g, '').trim();
    if (quoted.length > 2 && text.includes(quoted)) return quoted;
  }
  return '';
}

// A paragraph with what the rules saw in it marked. Marks do not overlap: the first rule that saw a place has it.
function marked(text, measures) {
  const marks = [];
  for (const { rule, detail, fired } of measures) {
    const quoted = detail && excerptOf(detail, text), at = quoted ? text.indexOf(quoted) : -1;
    if (at >= 0 && !marks.some((mark) => at < mark.end && at + quoted.length > mark.at)) marks.push({ at, end: at + quoted.length, rule, fired });
  }
  const parts = [];
  let from = 0;
  for (const { at, end, rule, fired } of marks.sort((a, b) => a.at - b.at)) {
    parts.push(text.slice(from, at), el('mark' + (fired ? '.fired' : ''), { title: `${rule}${fired ? ' rejects for this' : ' saw this'}` }, text.slice(at, end)));
    from = end;
  }
  return [...parts, text.slice(from)];
}

function outcome({ state, reason, due_ms, now_ms, body: { progress }, attempts }) {
  const verdict = progress.verdict;
  if (state === 'rejected' && verdict?.rule) {
    return el('p.error.box', el('b', `Rejected by ${verdict.rule}: `), `${verdict.detail} (measured ${+verdict.value.toFixed(2)}, threshold ${verdict.threshold})`);
  }
  if (state === 'failed') {
    return el('p.error.box', el('b', `${reason}: `), progress.message ?? 'its leases expired too often: each worker that held it stopped responding');
  }
  const last = attempts?.at(-1);
  if (state === 'delayed') return el('p.box', `Next attempt in ${span(due_ms - now_ms)}. Last error: `, el('span.error', errorOf(last)));
  return state === 'ready' && last?.end === 'error' && el('p.box', 'Waiting for the next attempt. Last error: ', el('span.error', errorOf(last)));
}

const errorOf = (attempt) => {
  const error = attempt?.detail.error;
  return error ? [error.class, error.message ?? error].filter(Boolean).join(': ') : '';
};

function figures({ body, state }, { attempts, history, lease }) {
  const sections = body.progress.sections ?? [], plan = body.progress.plan?.steps ?? [], { usage = { prompt: 0, cached: 0, generated: 0 } } = body;
  const words = sections.reduce((sum, section) => sum + section.words, 0), asked = body.instruction.required_words;
  return el('div.figures',
    figure(number(words), 'words', asked && `${number(asked)} requested`),
    figure(`${sections.length} / ${plan.length || '?'}`, 'sections', state === 'leased' && lease && `in progress: ${plural(lease.progress, 'token')} so far`),
    figure(number(usage.generated), 'tokens generated', 'all attempts'),
    figure(percent(usage.cached, usage.prompt), 'of prompt tokens cached', usage.prompt > 0 && `${number(usage.prompt - usage.cached)} computed`),
    figure(number(attempts.length + (lease ? 1 : 0)), 'attempts', history.length > 0 && `requeued ${plural(history.length, 'time')}`));
}

const TASKS = { plan: () => 'Plan', section: (n) => `Section ${n + 1}`, summary: (n) => `Summary ${n + 1}`, judge: () => 'Judge' };

function timeline(data) {
  const all = data.attempts.map((attempt) => ({ ...attempt, what: TASKS[attempt.detail.kind]?.(attempt.detail.section) ?? 'Attempt' }));
  if (data.lease) {
    const { worker, granted_ms, progress } = data.lease;
    all.push({ worker, granted_ms, ended_ms: data.now_ms, end: 'running', what: 'Now', detail: { usage: { generated: progress } } });
  }
  if (!all.length) return !isTerminal(data) && empty('No attempts yet.');
  const lanes = lanesOf(all);
  return table(['Task', 'Outcome', '-Timeline (long waits shortened)', '#Duration', '#Tokens', '-#Prompt', '-#Cached', '-Worker'], all.map((attempt, n) => {
    const { usage, finish_reason, revoked } = attempt.detail, duration = attempt.ended_ms - attempt.granted_ms;
    const title = `${moment(attempt.granted_ms)}, ${span(duration)}`;
    return el('tr', { 'data-key': `attempt ${n}` }, el('td', attempt.what),
      el('td', pill('end-' + attempt.end, attempt.end), finish_reason && finish_reason !== 'stop' && el('span.dim', ' ' + finish_reason),
        revoked && el('span.dim', ' revoked by operator'), errorOf(attempt) && el('div.error', errorOf(attempt))),
      el('td.lane.wide', el('i.end-' + attempt.end, { title, style: { 'margin-left': `${lanes[n].from}%`, width: `max(3px, ${lanes[n].width}%)` } })),
      el('td.n', span(duration)), el('td.n', usage ? number(usage.generated) : '–'),
      el('td.n.wide', usage?.prompt ? number(usage.prompt) : '–'), el('td.n.wide', usage?.prompt ? percent(usage.cached, usage.prompt) : '–'),
      el('td.dim.clip.wide', { title: attempt.worker }, attempt.worker));
  }));
}

// Position and width of each attempt on the timeline, in percent. Attempts do not overlap. Waits are cut to a twentieth of
// the working time, or a long one would leave the rest too small to see.
function lanesOf(attempts) {
  const busy = attempts.reduce((sum, attempt) => sum + attempt.ended_ms - attempt.granted_ms, 0) || 1;
  let end = attempts[0].granted_ms, at = 0;
  const found = attempts.map(({ granted_ms, ended_ms }) => {
    const from = at + Math.min(Math.max(granted_ms - end, 0), busy / 20);
    [end, at] = [ended_ms, from + ended_ms - granted_ms];
    return { from, width: ended_ms - granted_ms };
  });
  const whole = at || 1;
  return found.map(({ from, width }) => ({ from: (100 * from) / whole, width: (100 * width) / whole }));
}

// `data` is null for an earlier revision, which is read-only.
function sections(run, { body }, data) {
  const plan = body.progress.plan?.steps ?? [];
  if (!plan.length) return false;
  const written = body.progress.sections ?? [];
  const toggle = () => {
    localStorage.setItem(OPEN, wantsOpen() ? 'no' : 'yes');
    for (const section of document.querySelectorAll('details.section')) section.open = wantsOpen();
    return '';
  };
  return el('section.card', el('div.row', el('h2', 'Text'), written.length > 0 && button(wantsOpen() ? 'Collapse all' : 'Expand all', toggle, '.right.small')),
    plan.map((step, n) => section(run, step, n, written[n], data, n === written.length)));
}

function section(run, step, n, written, data, next) {
  const rewrite = (only) => async () => {
    await post(api(run, '/requeue'), { document: data.id, from_section: n + 1, only });
    return `Requeued from section ${n + 1}`;
  };
  const words = written ? `${number(written.words)} of ${number(step.words)} words` : `${number(step.words)} words planned`;
  const lease = data?.state === 'leased' && next ? data.lease : null;
  const head = [el('b', `${n + 1}.`), el('span.point', step.main_point), el('span.dim.n', lease ? `in progress: ${plural(lease.progress, 'token')}` : words)];
  if (!written) return el('div.section.row', { 'data-key': `section ${n}` }, head);
  const { finish_reason, attempt, usage, worker } = written;
  return el('details.section', { 'data-key': `section ${n}`, open: wantsOpen() }, el('summary', head),
    el('div.text', written.text.split(/\n{2,}/).map((paragraph) => el('p', marked(paragraph, data?.measures ?? [])))),
    el('div.row.dim.meta', `finish reason ${finish_reason}, attempt ${attempt}, ${plural(usage.generated, 'token')}, prompt ${number(usage.cached)} cached and ${number(usage.prompt - usage.cached)} computed, ${worker}`,
      data && isTerminal(data) && [action('Rewrite from here', rewrite(false), '.small'), action('Rewrite only this', rewrite(true), '.small')]));
}

function revisions(run, data, shown) {
  if (!data.history.length) return false;
  return card('Earlier revisions', table(['Revision', 'State', '#Sections', '#Words', ''], data.history.map((revision, n) => el('tr', { 'data-key': `revision ${n}` },
    el('td', String(n + 1)), el('td', pill(revision.state), revision.reason && el('span.dim', ' ' + revision.reason)), el('td.n', number(revision.sections)), el('td.n', number(revision.words)),
    el('td.n', shown === String(n) ? 'shown above' : el('a', { href: `${at.document(run, data.id)}?past=${n}` }, 'View'))))));
}

function provenance(run, { id, body }, site) {
  const [, trace, , sampled] = (body.traceparent || '').split('-');
  const viewer = trace && site.trace_url?.replaceAll('{trace}', encodeURIComponent(trace));
  const traced = [viewer ? el('a', { href: viewer, target: '_blank', rel: 'noopener' }, trace) : trace || 'not traced',
    sampled === '00' && ' (not sampled: only errors are traced)'];
  const { model, instruction } = body;
  const rows = [['Document', id], ['Trace', traced], ['Seed', body.seed], ['Candidate', body.candidate ?? 0], ['Round', body.round ?? 0],
    ['Model', model ? `${model.name} on ${model.device}, ${model.engine}` : '–'], ['Weights', model?.weights_hash || '–'], ['Tokenizer', model?.tokenizer_hash || '–'],
    ['Licence', model?.licence || '–'], ['Language', instruction.language], ['Input line', instruction.line]];
  if (Object.keys(instruction.metadata ?? {}).length) rows.push(['Metadata', JSON.stringify(instruction.metadata)]);
  return card('Provenance', el('dl', rows.map(([name, value]) => [el('dt', name), el('dd', Array.isArray(value) ? value : String(value))])));
}
