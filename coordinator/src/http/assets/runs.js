// All runs.

import { at, get } from './api.js';
import { el } from './dom.js';
import { moment, number, percent, plural, short } from './format.js';
import { eta, stallLine, tokenFigure } from './run.js';
import { figure, pill, progress, total, unfinished } from './parts.js';

export async function runsPage() {
  const { runs, more } = await get('/api/runs');
  const content = runs.length
    ? [el('h1', 'Runs'), el('div.list', runs.map(entry)), more && el('p.dim', 'Older runs are not shown: ', el('code', 'longhand status'), ' lists all.')]
    : [el('h1', 'No runs yet'), el('p', 'Submit one to see it here: ', el('code', 'longhand submit instructions.jsonl --run-id ships'))];
  return { title: 'Runs', crumbs: [], content };
}

function entry({ id, paused, created_ms, counts, stall, summary }) {
  const all = total(counts), open = unfinished(counts);
  const state = paused ? pill('delayed', 'paused') : open ? counts.leased ? pill('leased', 'running') : pill('ready') : pill('accepted', 'done');
  return el('article.card.run', { 'data-key': id },
    el('div.row', el('h2.name', el('a', { href: at.run(id) }, id)), state, created_ms > 0 && el('span.dim.right', moment(created_ms))),
    progress(counts), stallLine(stall),
    el('div.figures',
      figure(percent(all - open, all), 'finished', `${number(all - open)} of ${plural(all, 'document')}`),
      figure(number(counts.accepted), 'accepted', `${number(counts.rejected)} rejected, ${number(counts.failed)} failed`),
      summary && open > 0 && figure(eta(counts, paused, summary), 'remaining', `${number(summary.words_per_minute)} words/min`),
      summary && figure(short(summary.words), 'words accepted', open > 0 && `${number(summary.tokens_per_second)} tokens/s`),
      summary && tokenFigure(summary.tokens)),
    summary && !summary.complete && el('p.dim', summary.counted_ms ? `Counting; the totals are those of ${new Date(summary.counted_ms).toLocaleString()}.` : 'Counting; the figures are incomplete.'));
}
