// All runs.

import { at, get } from './api.js';
import { el } from './dom.js';
import { moment, number, percent, plural, short } from './format.js';
import { eta, spend } from './run.js';
import { figure, pill, progress, total, unfinished } from './parts.js';

export async function runsPage() {
  const { runs } = await get('/api/runs');
  const content = runs.length
    ? [el('h1', 'Runs'), el('div.list', runs.map(entry))]
    : [el('h1', 'No runs yet'), el('p', 'Submit one, and it shows up here: ', el('code', 'longhand submit instructions.jsonl --run-id ships'))];
  return { title: 'Runs', crumbs: [], content };
}

function entry({ id, paused, created_ms, counts, summary }) {
  const all = total(counts), open = unfinished(counts);
  const word = paused ? pill('delayed', 'paused') : open ? counts.leased ? pill('leased', 'at work') : pill('ready') : pill('accepted', 'done');
  return el('article.card.run', { 'data-key': id },
    el('div.row', el('h2.name', el('a', { href: at.run(id) }, id)), word, el('span.dim.right', moment(created_ms))),
    progress(counts),
    el('div.figures',
      figure(percent(all - open, all), 'ended', `${number(all - open)} of ${plural(all, 'document')}`),
      figure(number(counts.accepted), 'accepted', `${number(counts.rejected)} rejected, ${number(counts.failed)} failed`),
      summary && open > 0 && figure(eta(counts, paused, summary), 'to go', `${number(summary.words_per_minute)} words a minute`),
      summary && figure(short(summary.words), 'words accepted', open > 0 && `${number(summary.tokens_per_second)} tokens a second`),
      summary && spend(summary.tokens)),
    summary && !summary.complete && el('p.dim', 'Still being read; these figures grow.'));
}
