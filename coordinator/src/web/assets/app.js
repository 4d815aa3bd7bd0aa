// The dashboard. Every text of a run is put in with textContent, never as markup.
const main = document.getElementById('main');
const path = document.getElementById('path');
const state = document.getElementById('state');
const STATES = ['accepted', 'rejected', 'failed', 'leased', 'ready', 'delayed', 'cancelled'];
const MEANING = { ready: 'waiting', leased: 'in work', delayed: 'backing off' };
const EVERY = 2000;

// Elements: el('a.link', { href }, child, ...)
const SVG = new Set(['svg', 'path', 'rect', 'line', 'circle', 'text', 'title', 'g']);
function el(spec, ...rest) {
  const [tag, ...classes] = spec.split('.');
  const node = SVG.has(tag) ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag);
  if (classes.length) node.setAttribute('class', classes.join(' '));
  for (const part of rest.flat(Infinity)) {
    if (part === null || part === undefined || part === false) continue;
    if (typeof part === 'object' && !(part instanceof Node)) {
      for (const [name, value] of Object.entries(part)) {
        if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
        else if (name === 'style') for (const [k, v] of Object.entries(value)) node.style.setProperty(k, v);
        else if (value === true) node.setAttribute(name, '');
        else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
      }
    } else node.append(part instanceof Node ? part : String(part));
  }
  return node;
}
const number = (n) => Math.round(n ?? 0).toLocaleString('en');
const short = (n) => n >= 1e6 ? (n / 1e6).toFixed(n >= 1e7 ? 0 : 1) + ' M' : n >= 1e4 ? (n / 1e3).toFixed(0) + ' k' : number(n);
function span(ms) {
  const s = Math.max(0, ms / 1000);
  if (s < 10) return s.toFixed(1) + ' s';
  if (s < 120) return Math.round(s) + ' s';
  if (s < 7200) return Math.round(s / 60) + ' min';
  if (s < 172800) return (s / 3600).toFixed(1) + ' h';
  return Math.round(s / 86400) + ' days';
}
const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const pill = (word) => el('span.pill.' + word, MEANING[word] ?? word);
const api = (run, more = '') => '/api/runs/' + encodeURIComponent(run) + more;
const link = (run, id, text) => el('a', { href: `/runs/${encodeURIComponent(run)}/documents/${id}` }, text);
const name = (d) => d.name || d.id.slice(0, 8);
const card = (title, ...rest) => el('section.card', el('h2', title), ...rest);

async function get(url) {
  const answer = await fetch(url, { headers: { accept: 'application/json' } });
  if (answer.status === 401) { location.href = '/login'; throw new Error('log in first'); }
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error);
  return body;
}
async function post(url, body) {
  const answer = await fetch(url, {
    method: 'POST', headers: { 'content-type': 'application/json', 'x-longhand': '1' }, body: JSON.stringify(body),
  });
  if (answer.status === 401) { location.href = '/login'; throw new Error('log in first'); }
  const told = await answer.json().catch(() => ({ error: answer.statusText }));
  if (!answer.ok) throw new Error(told.error);
  return told;
}
function confirmed(question, yes, danger) {
  const dialog = document.getElementById('ask');
  document.getElementById('question').textContent = question;
  const button = document.getElementById('yes');
  button.textContent = yes;
  button.className = danger ? 'danger' : 'primary';
  dialog.returnValue = 'no';
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener('close', () => done(dialog.returnValue === 'yes'), { once: true }));
}
let notice = 0;
function say(text, bad) {
  state.textContent = text;
  state.className = bad ? 'bad' : '';
  notice = Date.now() + 8000;
}
// A button that does something, and says how it went.
function action(label, work, kind = '') {
  return el('button' + kind, { onclick: async (event) => {
    const button = event.currentTarget;
    button.disabled = true;
    try { const said = await work(); if (said) say(said); await refresh(); } catch (error) { say(error.message, true); }
    button.disabled = false;
  } }, label);
}
async function requeueMany(run, what, label) {
  const dry = await post(api(run, '/requeue'), { ...what, dry_run: true });
  if (!dry.documents) return `nothing to requeue: ${number(dry.skipped)} cannot be taken up again`;
  const texts = dry.redone ? `, ${number(dry.redone)} sections are written anew` : '';
  if (!await confirmed(`Requeue ${number(dry.documents)} documents (${label})${texts}?`, `Requeue ${number(dry.documents)}`)) return '';
  const done = await post(api(run, '/requeue'), what);
  return `${number(done.documents)} documents requeued`;
}

// Plots: plain SVG, drawn to a fixed box and scaled by the page.
const W = 560, H = 150, L = 44, B = 20;
function axes(top, left, right) {
  const at = (y) => 8 + (H - B - 8) * (1 - y);
  return [0, 0.5, 1].map((y) => el('g', el('line.grid', { x1: L, x2: W, y1: at(y), y2: at(y) }),
    el('text', { x: L - 6, y: at(y) + 4, 'text-anchor': 'end' }, short(top * y)))).concat(
    el('text', { x: L, y: H - 4 }, left), el('text', { x: W, y: H - 4, 'text-anchor': 'end' }, right));
}
function nice(max) {
  const unit = 10 ** Math.floor(Math.log10(Math.max(max, 1)));
  return [1, 2, 2.5, 5, 10].map((k) => k * unit).find((v) => v >= max) ?? max;
}
function curve(label, plot, value) {
  const values = plot.points.map(value);
  if (values.length < 2) return el('p.dim.empty', 'Drawn once there is something to compare.');
  const top = nice(Math.max(...values));
  const x = (i) => L + (W - L) * i / (values.length - 1), y = (v) => 8 + (H - B - 8) * (1 - v / top);
  const line = values.map((v, i) => `${i ? 'L' : 'M'}${x(i).toFixed(1)} ${y(v).toFixed(1)}`).join('');
  const end = plot.from_ms + plot.step_ms * values.length;
  return el('svg.plot', { viewBox: `0 0 ${W} ${H}`, role: 'img', 'aria-label': label }, el('title', label),
    axes(top, clock(plot.from_ms), clock(end)),
    el('path.area', { d: `${line}L${x(values.length - 1)} ${y(0)}L${L} ${y(0)}Z` }), el('path.line', { d: line }));
}
function bars(label, values, left, right) {
  const top = nice(Math.max(...values)), w = (W - L) / values.length;
  return el('svg.plot', { viewBox: `0 0 ${W} ${H}`, role: 'img', 'aria-label': label }, el('title', label), axes(top, left, right),
    values.map((v, i) => el('rect.bar', { x: L + i * w + 2, width: w - 4, y: 8 + (H - B - 8) * (1 - v / top), height: (H - B - 8) * v / top, rx: 2 },
      el('title', `${i * 10} to ${i * 10 + 10}: ${number(v)}`))));
}
function scatter(lengths) {
  const top = nice(Math.max(...lengths.map(([a, b]) => Math.max(a, b))));
  const x = (v) => L + (W - L) * v / top, y = (v) => 8 + (H - B - 8) * (1 - v / top);
  return el('svg.plot', { viewBox: `0 0 ${W} ${H}`, role: 'img', 'aria-label': 'Words written against words asked for' },
    axes(top, '0 asked for', short(top)), el('line.ideal', { x1: x(0), y1: y(0), x2: x(top), y2: y(top) }),
    lengths.map(([target, words, s]) => el('circle.' + s, { cx: x(target), cy: y(words), r: 3 }, el('title', `${number(words)} written, ${number(target)} asked for`))));
}
function progress(counts) {
  const total = STATES.reduce((sum, s) => sum + counts[s], 0) || 1;
  return el('div.progress', { role: 'img', 'aria-label': STATES.map((s) => `${counts[s]} ${s}`).join(', ') },
    STATES.filter((s) => counts[s]).map((s) => el('i.' + s, { style: { 'flex-grow': counts[s] / total }, title: `${number(counts[s])} ${MEANING[s] ?? s}` })));
}
function legend(run, counts) {
  return el('div.legend', STATES.map((s) => el('a' + (counts[s] ? '' : '.none'), { href: `/runs/${encodeURIComponent(run)}/documents?state=${s}` },
    pill(s), ' ', el('b', number(counts[s])))));
}
const figure = (value, label, note) => el('div.figure', el('b', value), el('span', label), note && el('small', note));
const table = (heads, rows) => el('div.scroll', el('table', el('thead', el('tr', heads.map((h) => el(h.startsWith('#') ? 'th.n' : 'th', { scope: 'col' }, h.replace('#', ''))))), el('tbody', rows)));

// Pages: each returns its content from what it asks.
async function runsPage() {
  const { runs } = await get('/api/runs');
  path.replaceChildren();
  document.title = 'Longhand';
  if (!runs.length) return [el('h1', 'No runs yet'), el('p', 'Submit one: ', el('code', 'longhand submit instructions.jsonl --run-id ships'))];
  return [el('h1', 'Runs'), el('div.list', runs.map((run) => {
    const c = run.counts, total = STATES.reduce((sum, s) => sum + c[s], 0), open = c.ready + c.leased + c.delayed;
    return el('a.card.run', { href: '/runs/' + encodeURIComponent(run.id) },
      el('div.row', el('b', run.id), run.paused && el('span.pill.delayed', 'paused'), el('span.dim.right', new Date(run.created_ms).toLocaleString([], { dateStyle: 'medium', timeStyle: 'short' }))),
      progress(c), el('div.dim', `${number(total - open)} of ${number(total)} documents ended, ${number(c.accepted)} accepted` + (c.failed ? `, ${number(c.failed)} failed` : '')));
  }))];
}
function eta(data) {
  const { points, step_ms } = data.plot, c = data.counts;
  if (!(c.ready + c.leased + c.delayed)) return 'done';
  if (data.run.paused) return 'paused';
  const span_ms = points.length * step_ms;
  if (data.sections < 3 || !span_ms || !data.sections_left) return '–';
  return span(span_ms * data.sections_left / data.sections);
}
const rate = (plot, key, per) => {
  const last = plot.points.slice(-6);
  return last.length ? last.reduce((sum, p) => sum + p[key], 0) / (last.length * plot.step_ms) * per : 0;
};
const brief = (run, list, time) => list.length
  ? table(['Document', 'State', '#Words', '#Time'], list.map((d) => el('tr', el('td', link(run, d.id, name(d)), el('div.dim.clip', d.title)), el('td', pill(d.state)), el('td.n', number(d.words)), el('td.n', time(d)))))
  : el('p.dim.empty', 'None.');
async function runPage(run) {
  const data = await get(api(run));
  const c = data.counts, t = data.tokens, open = c.ready + c.leased + c.delayed, total = STATES.reduce((sum, s) => sum + c[s], 0);
  path.replaceChildren('/ ', el('span', run));
  document.title = `${run}: ${Math.floor(100 * (total - open) / (total || 1))} %`;
  const here = '/runs/' + encodeURIComponent(run);
  return [
    el('div.row.head', el('h1', run), data.run.paused && el('span.pill.delayed', 'paused'), el('div.row.right',
      el('a.button', { href: here + '/documents' }, 'Documents'),
      open > 0 && action(data.run.paused ? 'Resume' : 'Pause', async () => { await post(api(run, '/pause'), { paused: !data.run.paused }); }),
      c.failed > 0 && action('Requeue failed', () => requeueMany(run, { failed: true }, 'all that failed')),
      open > 0 && action('Cancel run', async () => {
        if (!await confirmed(`End ${number(open)} unfinished documents of ${run}?`, `Cancel ${number(open)}`, true)) return '';
        return `${number((await post(api(run, '/cancel'), {})).documents)} documents cancelled`;
      }, '.danger'))),
    !data.complete && el('p.dim', 'Still reading this run; the numbers below grow.'),
    progress(c), legend(run, c),
    el('div.figures',
      figure(`${number(total - open)} / ${number(total)}`, 'documents ended'), figure(eta(data), 'to go', data.sections_left ? `${number(data.sections_left)} sections` : ''),
      figure(short(data.words), 'words accepted'), figure(number(rate(data.plot, 'words', 60000)), 'words a minute', 'last minute'),
      figure(number(rate(data.plot, 'tokens', 1000)), 'tokens a second', 'last minute'),
      figure(short(t.generated), 'tokens written', t.generated ? `${(100 * t.wasted / t.generated).toFixed(1)} % wasted` : ''),
      figure(t.cached + t.computed ? Math.round(100 * t.cached / (t.cached + t.computed)) + ' %' : '–', 'prompt from cache')),
    data.causes.length > 0 &&
      card('What went wrong', table(['Cause', '#Documents', ''], data.causes.map((cause) => el('tr',
        el('td', pill(cause.state), ' ', el('a', { href: `${here}/documents?state=${cause.state}&reason=${encodeURIComponent(cause.reason)}` }, cause.reason || '–'), el('div.dim.clip', cause.message)),
        el('td.n', number(cause.count)),
        el('td', cause.state === 'rejected' && action('Requeue', () => requeueMany(run, { rejected: cause.reason }, `rejected by ${cause.reason}`))))))),
    el('div.grid2',
      card('Words a minute', curve('Words a minute over time', data.plot, (p) => p.words / data.plot.step_ms * 60000)),
      card('Tokens a second', curve('Tokens a second over time', data.plot, (p) => p.tokens / data.plot.step_ms * 1000)),
      card('Words written against words asked for', data.lengths.length ? scatter(data.lengths) : el('p.dim.empty', 'No document has ended yet.')),
      card('Length score S_l', data.lengths.length ? bars('Documents by length score', data.scores, '0', '100') : el('p.dim.empty', 'No document has ended yet.')),
      card('Open longest', brief(run, data.oldest, (d) => span(data.now_ms - d.begun_ms))),
      card('Slowest', brief(run, data.slowest, (d) => span(d.spent_ms)))),
    el('p.dim', `Seed ${data.run.seed}, recipe `, el('code', data.run.recipe_hash.slice(0, 12)), data.run.model && `, model ${data.run.model}`),
  ];
}
let typed = 0;
function form(run, query, data) {
  const go = (change) => { const next = new URLSearchParams(location.search); for (const [k, v] of Object.entries(change)) v === '' ? next.delete(k) : next.set(k, v); if (!('page' in change)) next.delete('page'); navigate(location.pathname + (next.size ? '?' + next : ''), true); };
  const pick = (key, label, options) => el('label', label, el('select', { onchange: (e) => go({ [key]: e.target.value }) }, options.map(([value, text]) => el('option', { value, selected: (query.get(key) ?? '') === value }, text))));
  const type = (key, label, kind, width) => el('label', label, el('input', { type: kind, value: query.get(key) ?? '', style: { width }, id: 'f-' + key, oninput: (e) => { clearTimeout(typed); const value = e.target.value; typed = setTimeout(() => go({ [key]: value }), 250); } }));
  return { bar: el('div.filters',
    type('q', 'Search', 'search', '15em'), pick('state', 'State', [['', 'all'], ...STATES.map((s) => [s, MEANING[s] ?? s])]),
    pick('reason', 'Cause', [['', 'all'], ...data.reasons.map((r) => [r, r])]), type('worker', 'Worker', 'search', '11em'),
    type('min', 'Words from', 'number', '6em'), type('max', 'to', 'number', '6em'),
    pick('sort', 'Order', [['', 'submitted'], ['changed', 'changed last'], ['time', 'slowest'], ['words', 'longest'], ['score', 'worst length score']])), go };
}
async function documentsPage(run, query) {
  const data = await get(api(run, '/documents?' + query));
  path.replaceChildren('/ ', el('a', { href: '/runs/' + encodeURIComponent(run) }, run), ' / ', el('span', 'documents'));
  document.title = `${run}: documents`;
  const { bar, go } = form(run, query, data);
  const wanted = query.get('state') === 'failed' && !query.get('reason') ? { failed: true } : query.get('state') === 'rejected' && query.get('reason') ? { rejected: query.get('reason') } : null;
  const whole = wanted && !['q', 'worker', 'min', 'max'].some((key) => query.get(key));
  return [
    el('div.row.head', el('h1', 'Documents'), el('span.dim', data.total === 1 ? '1 document' : `${number(data.total)} documents`, !data.complete && ', still reading'),
      el('div.row.right', whole && data.total > 0 && action('Requeue all of these', () => requeueMany(run, wanted, wanted.failed ? 'all that failed' : `rejected by ${wanted.rejected}`)))),
    bar,
    data.items.length ? table(['Document', 'State', 'Sections', '#Words', '#Asked', '#Score', '#Time', 'Worker', ''], data.items.map((d) => el('tr',
      el('td', link(run, d.id, name(d)), el('div.dim.clip', d.title)),
      el('td', pill(d.state), d.reason && el('div.dim', d.reason)),
      el('td', d.steps ? el('span.meter', { title: `${d.sections} of ${d.steps} sections` }, el('i', { style: { width: `${100 * d.sections / d.steps}%` } })) : el('span.dim', '–'), d.steps ? ` ${d.sections}/${d.steps}` : ''),
      el('td.n', d.words ? number(d.words) : '–'), el('td.n', d.target ? number(d.target) : '–'), el('td.n', d.score === null ? '–' : d.score.toFixed(0)),
      el('td.n', d.spent_ms ? span(d.spent_ms) : '–', d.tries > 0 && el('div.dim', `${d.tries} lost or failed`)), el('td.dim.clip', d.worker),
      el('td', ['failed', 'rejected', 'cancelled'].includes(d.state) && d.reason !== 'bad_row' && action('Requeue', async () => { await post(api(run, '/requeue'), { document: d.id }); return `${name(d)} requeued`; }))))) : el('p.dim.empty', 'No document fits. ', el('a', { href: location.pathname }, 'Show all.')),
    data.pages > 1 && el('div.row.pages', el('button', { disabled: data.page === 0, onclick: () => go({ page: data.page - 1 }) }, 'Previous'),
      el('span', `Page ${number(data.page + 1)} of ${number(data.pages)}`), el('button', { disabled: data.page + 1 >= data.pages, onclick: () => go({ page: data.page + 1 }) }, 'Next')),
  ];
}
function timeline(data) {
  const all = data.attempts.map((a) => ({ ...a, what: a.detail.kind === 'section' ? `Section ${a.detail.section + 1}` : a.detail.kind ?? 'attempt' }));
  if (data.lease) all.push({ worker: data.lease.worker, granted_ms: data.lease.granted_ms, ended_ms: data.now_ms, end: 'running', what: 'now', detail: { tokens: data.lease.progress } });
  if (!all.length) return el('p.dim.empty', 'No worker has had it yet.');
  const from = Math.min(...all.map((a) => a.granted_ms)), to = Math.max(...all.map((a) => a.ended_ms)), all_ms = Math.max(to - from, 1);
  return table(['Task', 'End', '', '#Took', '#Tokens', '#Cached', 'Worker'], all.map((a) => {
    const u = a.detail.usage ?? {};
    return el('tr', el('td', a.what), el('td', el('span.pill.end-' + a.end, a.end), a.detail.finish_reason && a.detail.finish_reason !== 'stop' ? el('span.dim', ' ' + a.detail.finish_reason) : null, a.detail.error && el('div.error', `${a.detail.error.class ?? ''} ${a.detail.error.message ?? a.detail.error}`)),
      el('td.lane', el('i.end-' + a.end, { style: { 'margin-left': `${100 * (a.granted_ms - from) / all_ms}%`, width: `max(3px, ${100 * (a.ended_ms - a.granted_ms) / all_ms}%)` } })),
      el('td.n', span(a.ended_ms - a.granted_ms)), el('td.n', number(u.generated ?? a.detail.tokens)), el('td.n', u.prompt ? Math.round(100 * u.cached / u.prompt) + ' %' : '–'), el('td.dim.clip', a.worker));
  }));
}
async function documentPage(run, id) {
  const data = await get(api(run, '/documents/' + id));
  const body = data.body, p = body.progress, i = body.instruction;
  const plan = p.plan?.steps ?? [], sections = p.sections ?? [], ended = !['ready', 'leased', 'delayed'].includes(data.state);
  path.replaceChildren('/ ', el('a', { href: '/runs/' + encodeURIComponent(run) }, run), ' / ', el('a', { href: `/runs/${encodeURIComponent(run)}/documents` }, 'documents'), ' / ', el('span', i.id ?? id.slice(0, 8)));
  document.title = `${i.id ?? id.slice(0, 8)}: ${data.state}`;
  const words = sections.reduce((sum, s) => sum + s.words, 0), trace = body.traceparent.split('-')[1];
  const verdict = p.verdict?.verdict === 'rejected' ? `Rejected by ${p.verdict.rule}: ${p.verdict.detail} (measured ${+p.verdict.value.toFixed(2)}, threshold ${p.verdict.threshold})` : p.state === 'failed' ? `${p.class}: ${p.message}` : data.state === 'failed' ? `${data.reason}: its leases ran out again and again` : null;
  const again = (more, said) => async () => { await post(api(run, '/requeue'), { document: id, ...more }); return said; };
  return [
    el('div.row.head', el('h1', i.id ?? id.slice(0, 8)), pill(data.state), el('div.row.right',
      ended && p.class !== 'bad_row' && action('Requeue', again({}, 'requeued'), '.primary'),
      !ended && action('Cancel', async () => { if (!await confirmed('End this document? What is written stays.', 'Cancel it', true)) return ''; await post(api(run, '/cancel'), { document: id }); return 'cancelled'; }, '.danger'))),
    verdict && el('p.error.box', verdict),
    el('div.figures', figure(number(words), 'words', i.required_words ? `${number(i.required_words)} asked for` : ''), figure(`${sections.length} / ${plan.length || '?'}`, 'sections'),
      figure(number(body.usage.generated), 'tokens written'), figure(body.usage.prompt ? Math.round(100 * body.usage.cached / body.usage.prompt) + ' %' : '–', 'prompt from cache'), figure(number(data.attempts.length), 'attempts', data.history.length ? `requeued ${data.history.length} times` : '')),
    card('Instruction', el('div.text', i.messages.map((m) => el('p', i.messages.length > 1 && el('b', m.role + ': '), m.content)))),
    card('Attempts', timeline(data)),
    plan.length > 0 && card('Plan and text', plan.map((step, n) => {
      const s = sections[n];
      return el('details.section', { 'data-keep': 'section-' + n, open: false }, el('summary', el('b', `${n + 1}.`), el('span.point', step.main_point), el('span.dim.n', s ? `${number(s.words)} of ${number(step.words)} words` : `${number(step.words)} words to write`)),
        s && el('div.dim.meta', `${s.finish_reason}, try ${s.attempt}, ${number(s.usage.generated)} tokens, ${s.usage.cached} of ${s.usage.prompt} prompt tokens cached, ${s.worker}`, ended && el('span', ' ', action('Write from here again', again({ from_section: n + 1 }, `requeued from section ${n + 1}`)))),
        s && el('div.text', s.text.split(/\n{2,}/).map((t) => el('p', t))));
    })),
    card('Provenance', el('dl', [['Document', id], ['Trace', trace || 'not traced'], ['Seed', body.seed], ['Candidate', body.candidate], ['Model', body.model ? `${body.model.name} on ${body.model.device}, ${body.model.engine}` : '–'], ['Weights', body.model?.weights_hash ?? '–'], ['Input line', i.line]].map(([k, v]) => [el('dt', k), el('dd', String(v))]))),
  ];
}

function page() {
  const parts = location.pathname.split('/').filter(Boolean).map(decodeURIComponent);
  const query = new URLSearchParams(location.search);
  if (parts[0] !== 'runs' || !parts[1]) return runsPage();
  if (parts[2] !== 'documents') return runPage(parts[1]);
  return parts[3] ? documentPage(parts[1], parts[3]) : documentsPage(parts[1], query);
}
// Puts a page in place and keeps what a person was at: focus, the cursor in a field, opened sections.
function show(content) {
  const focused = document.activeElement, id = focused?.id, at = focused?.selectionStart;
  const open = new Set([...main.querySelectorAll('details[open]')].map((d) => d.dataset.keep));
  const text = id?.startsWith('f-') ? focused.value : null;
  main.replaceChildren(...content.flat(Infinity).filter((node) => node instanceof Node));
  for (const d of main.querySelectorAll('details')) d.open = open.has(d.dataset.keep);
  const again = id?.startsWith('f-') && document.getElementById(id);
  if (again) { again.value = text; again.focus(); if (at !== null && again.type !== 'number') again.setSelectionRange(at, at); }
}
let timer = 0, turn = 0, last = '';
async function refresh() {
  clearTimeout(timer);
  const mine = ++turn;
  try {
    const content = await page();
    if (mine !== turn) return;
    // A list that somebody picks from, or a text that somebody marks, stays still.
    const busy = document.activeElement?.tagName === 'SELECT' || !getSelection().isCollapsed;
    if (!busy || last !== location.href) show(content);
    last = location.href;
    if (Date.now() > notice) { state.textContent = ''; state.className = ''; }
  } catch (error) {
    if (mine !== turn) return;
    say(error.message === 'Failed to fetch' ? 'No answer from the coordinator; trying again' : error.message, true);
  }
  timer = setTimeout(refresh, document.hidden ? 10 * EVERY : EVERY);
}
function navigate(url, replace) {
  history[replace ? 'replaceState' : 'pushState'](null, '', url);
  refresh();
  if (!replace) { scrollTo(0, 0); main.focus({ preventScroll: true }); }
}
document.addEventListener('click', (event) => {
  const a = event.target.closest?.('a[href^="/"]');
  if (!a || event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
  event.preventDefault();
  navigate(a.getAttribute('href'));
});
addEventListener('popstate', refresh);
document.addEventListener('visibilitychange', () => { if (!document.hidden) refresh(); });
refresh();
