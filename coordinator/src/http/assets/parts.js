// Elements shared by several pages, and button actions.

import { api, at, post } from './api.js';
import { stack } from './charts.js';
import { el } from './dom.js';
import { ago, moment, number, plural } from './format.js';

export const STATES = ['accepted', 'rejected', 'failed', 'leased', 'ready', 'delayed', 'cancelled'];
const MEANING = { ready: 'waiting', leased: 'in progress', delayed: 'backing off' };
export const stateLabel = (state) => MEANING[state] ?? state;

export const total = (counts) => STATES.reduce((sum, state) => sum + counts[state], 0);
export const unfinished = (counts) => counts.ready + counts.leased + counts.delayed;

export const pill = (word, text) => el('span.pill.' + word, text ?? stateLabel(word));
// A card without content is left out.
export const card = (title, ...rest) => rest.flat().some(Boolean) && el('section.card', el('h2', title), rest);
export const figure = (value, label, note) => el('div.figure', el('b', value), el('span', label), note && el('small', note));
// `numbered` where the run has several candidates of a row.
export const nameOf = (document, numbered) => (document.name || document.id.slice(0, 8)) + (numbered ? ` · ${document.candidate + 1}` : '');
export const S_L = 'Length score: 100 where as many words were written as requested, 0 where it was four times as many or a third';
export const sl = (text) => el('abbr', { title: S_L }, text);
export const link = (run, id, text) => el('a', { href: at.document(run, id) }, text);
export const progress = (counts) => stack('Documents', STATES.map((state) => [state, counts[state], stateLabel(state)]));

export const legend = (run, counts) =>
  el('div.legend', STATES.map((state) => el('a' + (counts[state] ? '' : '.none'), { href: at.documents(run, { state }) },
    pill(state), ' ', el('b', number(counts[state])))));

// A heading with # is a column of numbers; one with - is left out on narrow screens.
export function table(heads, rows) {
  const head = heads.map((name) => el('th' + (name.includes('#') ? '.n' : '') + (name.includes('-') ? '.wide' : ''), { scope: 'col' }, name.replace(/[#-]/g, '')));
  return el('div.scroll', { tabindex: 0, role: 'region', 'aria-label': 'Table' }, el('table', el('thead', el('tr', head)), el('tbody', rows)));
}

const ACTIONS = { pause: 'paused the run', resume: 'resumed the run', cancel: 'cancelled', requeue: 'requeued', drain: 'requested drain of' };
export const activity = (actions, now, { run, one } = {}) => actions.length > 0 && card('Activity', el('ul.activity', actions.map((action) => {
  const what = one || !action.documents ? '' : ` ${plural(action.documents, 'document')}`;
  const document = run && /^[0-9a-f]{32}$/.test(action.about);
  const about = action.about && !one && [': ', document ? link(run, action.about, action.about.slice(0, 8)) : action.about];
  return el('li', el('span.dim', { title: moment(action.at_ms) }, ago(action.at_ms, now)), ' ', el('b', action.who), ` ${ACTIONS[action.what]}${what}`, about);
})));

// Shows the result of an action for some seconds.
const notice = document.getElementById('notice');
let timer = 0;
export function notify(text, isError) {
  notice.textContent = text;
  notice.className = isError ? 'error' : '';
  clearTimeout(timer);
  timer = setTimeout(() => { notice.textContent = ''; }, isError ? 20000 : 8000);
}

// Asks for confirmation. `yes` and `no` are the labels of the buttons.
export function confirmed(question, { yes, no = 'Cancel', danger = false }) {
  const dialog = document.getElementById('confirm'), button = document.getElementById('confirm-yes');
  document.getElementById('confirm-text').textContent = question;
  document.getElementById('confirm-no').textContent = no;
  button.textContent = yes;
  button.className = danger ? 'danger' : 'primary';
  dialog.returnValue = 'no';
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener('close', () => done(dialog.returnValue === 'yes'), { once: true }));
}

// A button that runs `work`, shows the message that it returns, and redraws the page.
export function button(label, work, kind = '') {
  const onclick = async (event) => {
    const button = event.currentTarget;
    button.dataset.busy = button.disabled = true;
    try {
      const message = await work();
      if (message) notify(message);
    } catch (error) {
      notify(error.message, true);
    }
    delete button.dataset.busy;
    button.disabled = false;
    button.dispatchEvent(new Event('action-done', { bubbles: true }));
  };
  return el('button' + kind, { onclick, type: 'button' }, label);
}

// One that changes a run. Those who may only read do not see it.
export const action = (label, work, kind = '') => button(label, work, '.action' + kind);

// Requeues all documents that a filter selects, after confirmation of their number.
export const requeueAll = (run, filter, label) => async () => {
  const dry = await post(api(run, '/requeue'), { filter, dry_run: true });
  if (!dry.documents) return 'Nothing to requeue: no matching document has finished, or its input row is invalid.';
  const rewritten = dry.redone ? ` ${plural(dry.redone, 'section')} will be rewritten.` : '';
  if (!await confirmed(`Requeue ${plural(dry.documents, 'document')} (${label})?${rewritten}`, { yes: `Requeue ${plural(dry.documents, 'document')}` })) return '';
  const done = await post(api(run, '/requeue'), { filter, mark: dry.mark });
  return `${plural(done.documents, 'document')} requeued` + (done.skipped ? `, ${number(done.skipped)} skipped` : '');
};
