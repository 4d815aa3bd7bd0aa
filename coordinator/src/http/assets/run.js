// One run.

import { api, at, get, post } from './api.js';
import { curve, lengths, scores, stack } from './charts.js';
import { el } from './dom.js';
import { moment, number, percent, plural, short, span } from './format.js';
import { action, activity, card, confirmed, figure, legend, link, nameOf, pill, progress, requeueAll, sl, table, total, unfinished } from './parts.js';

export function eta(counts, paused, summary) {
  if (!unfinished(counts)) return 'done';
  if (paused) return 'paused';
  return summary.eta_ms === null ? '–' : span(summary.eta_ms);
}

export function tokenFigure({ accepted, open, dropped, wasted }) {
  const all = accepted + open + dropped + wasted;
  // A finished folder states none.
  return all > 0 && figure(short(all), 'tokens generated', `${percent(accepted, all)} accepted, ${percent(wasted + dropped, all)} wasted`);
}

// Why nothing moves.
export const stallLine = (stall) => stall && el('p.stall', { role: 'status' }, 'No progress: ', stall.message);

// What was spent, and on what.
const costFigures = ({ total, dropped, per_document: document, per_million_words: words }) => [
  figure(total.toFixed(2), 'cost', `${dropped.toFixed(2)} for dropped documents`),
  document !== null && figure(document.toFixed(4), 'cost per accepted document', words !== null && `${words.toFixed(2)} per million words`)];

// While it runs, the figures of the last minute; of a run that is done, those of the whole.
function figures({ counts, summary, run }) {
  const open = unfinished(counts), all = total(counts), ended = all - open;
  const { accepted, dropped, wasted } = summary.tokens, tokens = accepted + summary.tokens.open + dropped + wasted;
  const minutes = summary.worked_ms / 60000;
  const now = [
    figure(eta(counts, run.paused, summary), 'remaining', summary.sections_left > 0 && `about ${plural(summary.sections_left, 'section')}`),
    figure(number(summary.words_per_minute), 'words/min', 'last minute'),
    figure(number(summary.tokens_per_second), 'tokens/s', 'last minute')];
  const whole = summary.worked_ms > 0 && [
    figure(span(summary.worked_ms), 'first to last task'),
    figure(number(summary.words / minutes), 'accepted words/min', 'mean'),
    figure(number(tokens / (summary.worked_ms / 1000)), 'tokens/s', 'mean')];
  return el('div.figures',
    figure(`${number(ended)} / ${number(all)}`, 'documents finished'),
    open > 0 ? now : whole,
    figure(short(summary.words), 'words accepted', summary.mean_words !== null && `mean ${number(summary.mean_words)} a document`),
    summary.mean_score !== null && figure(summary.mean_score.toFixed(1), sl('mean S_l, accepted')),
    tokens > 0 && figure(short(tokens), 'tokens generated', summary.tokens_per_word && `${summary.tokens_per_word.toFixed(2)} an accepted word`),
    summary.tokens.cached + summary.tokens.computed > 0 && figure(percent(summary.tokens.cached, summary.tokens.cached + summary.tokens.computed), 'of prompt tokens cached'),
    summary.cost && costFigures(summary.cost));
}

export async function runPage(run) {
  const data = await get(api(run));
  const { counts, summary, details } = data;
  const open = unfinished(counts), all = total(counts), ended = all - open;
  const title = `${run} ${percent(ended, all)}`;
  const curves = details.plot.points.length > 1;
  const content = [
    el('div.row.head', el('h1', run), data.run.paused && pill('delayed', 'paused'), buttons(run, data, open)),
    !summary.complete && el('p.dim', `Counting: ${number(summary.listed)} of ${plural(all, 'document')} read. ` + (summary.counted_ms ? `The totals are those of ${new Date(summary.counted_ms).toLocaleString()}.` : 'The figures below are incomplete.')),
    progress(counts), legend(run, counts), stallLine(data.stall),
    figures(data),
    card('Tokens generated', tokens(summary)),
    el('div.grid2',
      curves && card('Words per minute', curve('words/min', details.plot, (point, ms) => (point.words / ms) * 60000)),
      curves && card('Tokens per second', curve('tokens/s', details.plot, (point, ms) => (point.tokens / ms) * 1000)),
      details.lengths.documents > 0 && el('section.card.tall', el('h2', 'Words written and requested'), lengths(details.lengths)),
      details.lengths.documents > 0 && card(sl('Length score S_l'), scores(details.scores)),
      causes(run, 'Rejected by rule', 'rejected', details.rejected),
      causes(run, 'Failed by cause', 'failed', details.failed),
      errors(run, details.faults),
      card('Longest open', topDocuments(run, details.oldest, (line) => span(data.now_ms - line.begun_ms))),
      card('Slowest (processing time)', topDocuments(run, details.slowest, (line) => span(line.spent_ms)))),
    activity(data.actions, data.now_ms, { run }),
    el('p.dim', `Recipe ${data.run.recipe || 'unnamed'} (`, el('code', { title: data.run.recipe_hash }, data.run.recipe_hash.slice(0, 12)), ')',
      details.models.length > 0 && `, written by ${details.models.join(', ')}`, data.run.model && ` (only ${data.run.model} may)`,
      `, seed ${data.run.seed}, priority ${data.run.priority}`, data.run.created_ms > 0 && `, created ${moment(data.run.created_ms)}`),
  ];
  return { title, crumbs: [[run]], content };
}

function buttons(run, data, open) {
  const { paused } = data.run;
  // An invalid row cannot be requeued.
  const failed = data.details.failed.filter(({ reason }) => reason !== 'bad_row').length;
  const cancel = async () => {
    const question = `Cancel ${plural(open, 'unfinished document')} of ${run}? Text written so far is kept, and the documents can be requeued.`;
    if (!await confirmed(question, { yes: `Cancel ${plural(open, 'document')}`, no: 'Keep running', danger: true })) return '';
    return `${plural((await post(api(run, '/cancel'))).documents, 'document')} cancelled`;
  };
  return el('div.row.right',
    el('a.button', { href: at.documents(run) }, 'Documents'),
    data.counts.accepted + data.counts.rejected > 0 && el('a.button', { href: at.report(run) }, 'Report'),
    data.counts.accepted > 0 && el('a.button', { href: at.corpus(run, 'jsonl'), download: true, title: 'Accepted documents, one record on each line' }, 'JSONL'),
    data.counts.accepted > 0 && el('a.button', { href: at.corpus(run, 'md'), download: true, title: 'Accepted documents as one Markdown file' }, 'Markdown'),
    open > 0 && action(paused ? 'Resume' : 'Pause', async () => {
      await post(api(run, '/pause'), { paused: !paused });
      return paused ? 'Run resumed' : 'Run paused: work in progress finishes, nothing new starts';
    }),
    failed > 0 && action('Requeue failed', requeueAll(run, { state: 'failed' }, 'all failed')),
    open > 0 && action('Cancel run', cancel, '.danger'));
}

function tokens({ tokens: { accepted, open, dropped, wasted }, discarded }) {
  const parts = [['accepted', accepted, 'in accepted documents'], ['leased', open, 'in unfinished documents'],
    ['rejected', dropped, 'in rejected, failed or cancelled documents'], ['failed', wasted, 'thrown away by a rule or an error']];
  const all = accepted + open + dropped + wasted;
  if (!all) return false;
  return [stack('Tokens', parts), el('div.legend', parts.map(([kind, value, label]) =>
    el('span', pill(kind, label), ' ', el('b', short(value)), el('span.dim', ` ${percent(value, all)}`)))),
    wasted > 0 && table(['Thrown away by', '#Tokens'], Object.entries(discarded).sort(([, a], [, b]) => b - a)
      .map(([cause, count]) => el('tr', { 'data-key': cause }, el('td', cause), el('td.n', number(count)))))];
}

// Documents of a state by reason, with links to them.
function causes(run, title, state, list) {
  if (!list.length) return false;
  return card(title, table(['Cause', '#Documents', ''], list.map(({ reason, count, message }) => el('tr', { 'data-key': reason },
    el('td', el('a', { href: at.documents(run, { state, reason }) }, reason || '–'), el('div.dim.lines', { title: message }, message)),
    el('td.n', number(count)),
    el('td.n', reason !== 'bad_row' && action('Requeue', requeueAll(run, { state, reason }, `${state}: ${reason}`)))))));
}

function errors(run, list) {
  if (!list.length) return false;
  return card('Errors during processing', table(['Error', '#Documents'], list.map(({ error, count }) => el('tr', { 'data-key': error },
    el('td', el('a', { href: at.documents(run, { error }) }, error), error === 'lost' && el('span.dim', ' – the worker stopped responding')),
    el('td.n', number(count))))));
}

function topDocuments(run, list, time) {
  if (!list.length) return false;
  return table(['Document', '-State', '#Words', '#Time'], list.map((line) => el('tr', { 'data-key': line.id },
    el('td', link(run, line.id, nameOf(line)), el('div.dim.lines', { title: line.title }, line.title)), el('td.wide', pill(line.state)),
    el('td.n', number(line.words)), el('td.n', time(line)))));
}
