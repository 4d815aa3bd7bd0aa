// Pieces that several pages are made of, and what buttons do.

import { api, at, post } from './api.js';
import { stack } from './charts.js';
import { el } from './dom.js';
import { ago, moment, number, plural } from './format.js';

export const STATES = ['accepted', 'rejected', 'failed', 'leased', 'ready', 'delayed', 'cancelled'];
const MEANING = { ready: 'waiting', leased: 'in work', delayed: 'backing off' };
export const means = (state) => MEANING[state] ?? state;

export const total = (counts) => STATES.reduce((sum, state) => sum + counts[state], 0);
export const unfinished = (counts) => counts.ready + counts.leased + counts.delayed;

export const pill = (word, text) => el('span.pill.' + word, text ?? means(word));
export const card = (title, ...rest) => el('section.card', el('h2', title), rest);
export const figure = (value, label, note) => el('div.figure', el('b', value), el('span', label), note && el('small', note));
export const nameOf = (document) => document.name || document.id.slice(0, 8);
export const link = (run, id, text) => el('a', { href: at.document(run, id) }, text);
export const progress = (counts) => stack('Documents', STATES.map((state) => [state, counts[state], means(state)]));

export const legend = (run, counts) =>
  el('div.legend', STATES.map((state) => el('a' + (counts[state] ? '' : '.none'), { href: at.documents(run, { state }) },
    pill(state), ' ', el('b', number(counts[state])))));

// Heads that begin with # stand over numbers, those with - are left out on narrow screens.
export function table(heads, rows) {
  const head = heads.map((name) => el('th' + (name.includes('#') ? '.n' : '') + (name.includes('-') ? '.wide' : ''), { scope: 'col' }, name.replace(/[#-]/g, '')));
  return el('div.scroll', { tabindex: 0, role: 'region', 'aria-label': 'Table' }, el('table', el('thead', el('tr', head)), el('tbody', rows)));
}

const DEEDS = { pause: 'paused the run', resume: 'let the run go on', cancel: 'cancelled', requeue: 'requeued', drain: 'asked to drain' };
export const diary = (actions, now, { run, one } = {}) => actions.length > 0 && card('By hand', el('ul.diary', actions.map((action) => {
  const what = one || !action.documents ? '' : ` ${plural(action.documents, 'document')}`;
  const document = run && /^[0-9a-f]{32}$/.test(action.about);
  const about = action.about && !one && [': ', document ? link(run, action.about, action.about.slice(0, 8)) : action.about];
  return el('li', el('span.dim', { title: moment(action.at_ms) }, ago(action.at_ms, now)), ' ', el('b', action.who), ` ${DEEDS[action.what]}${what}`, about);
})));

// The line at the top that tells how a deed went.
const said = document.getElementById('said');
let until = 0;
export function say(text, bad) {
  said.textContent = text;
  said.className = bad ? 'bad' : '';
  clearTimeout(until);
  until = setTimeout(() => { said.textContent = ''; }, bad ? 20000 : 8000);
}

export function confirmed(question, yes, danger) {
  const dialog = document.getElementById('ask'), button = document.getElementById('yes');
  document.getElementById('question').textContent = question;
  button.textContent = yes;
  button.className = danger ? 'danger' : 'primary';
  dialog.returnValue = 'no';
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener('close', () => done(dialog.returnValue === 'yes'), { once: true }));
}

// A button that does something, says how it went, and has the page drawn anew.
export function action(label, work, kind = '') {
  const onclick = async (event) => {
    const button = event.currentTarget;
    button.dataset.busy = button.disabled = true;
    try {
      const words = await work();
      if (words) say(words);
    } catch (error) {
      say(error.message, true);
    }
    delete button.dataset.busy;
    button.disabled = false;
    button.dispatchEvent(new Event('done', { bubbles: true }));
  };
  return el('button' + kind, { onclick, type: 'button' }, label);
}

// All that a filter selects, with the number asked for before.
export const requeueAll = (run, filter, label) => async () => {
  const dry = await post(api(run, '/requeue'), { filter, dry_run: true });
  if (!dry.documents) return 'Nothing to requeue: none of these has ended, or their rows cannot be read.';
  const anew = dry.redone ? ` ${plural(dry.redone, 'section')} will be written anew.` : '';
  if (!await confirmed(`Requeue ${plural(dry.documents, 'document')}, ${label}?${anew}`, `Requeue ${number(dry.documents)}`)) return '';
  const done = await post(api(run, '/requeue'), { filter, mark: dry.mark });
  return `${plural(done.documents, 'document')} requeued` + (done.skipped ? `, ${number(done.skipped)} could not be` : '');
};
