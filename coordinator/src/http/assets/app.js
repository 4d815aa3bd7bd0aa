// The dashboard: routing between pages, and when a page is redrawn.

import { ApiError, get, post } from './api.js';
import { documentPage } from './document.js';
import { documentsPage } from './documents.js';
import { el, morphChildren } from './dom.js';
import { runPage } from './run.js';
import { runsPage } from './runs.js';
import { workersPage } from './workers.js';

const main = document.getElementById('main');
const path = document.getElementById('path');
const live = document.getElementById('live');
// Polling interval while the event stream is not connected.
const POLL_MS = 5000;

let site = {};

function route() {
  const parts = location.pathname.split('/').filter(Boolean).map(decodeURIComponent);
  const run = parts[0] === 'runs' ? parts[1] : undefined;
  return { parts, run, query: new URLSearchParams(location.search) };
}

function page({ parts, run, query }) {
  const [first, , third, id] = parts;
  if (parts.length === 1 && first === 'workers') return workersPage();
  if (parts.length === 0 || (parts.length === 1 && first === 'runs')) return runsPage();
  if (first === 'runs' && parts.length === 2) return runPage(run);
  if (first !== 'runs' || third !== 'documents' || parts.length > 4) throw new ApiError(404, `No page has the address ${location.pathname}.`);
  return id ? documentPage(run, id, query, site) : documentsPage(run, query, navigate);
}

function show({ title, crumbs, content }) {
  document.title = `${title} – Longhand`;
  morphChildren(path, el('nav', crumbs.map(([text, href]) => [' / ', href ? el('a', { href }, text) : el('span', { 'aria-current': 'page' }, text)])));
  morphChildren(main, el('main', content));
  main.setAttribute('aria-busy', 'false');
}

const pathOf = (url) => url.split('?')[0];

// One request at a time; changes that arrive meanwhile cause another one after it.
let drawing = null, stale = false, shown = '';
function refresh() {
  stale = true;
  drawing ??= draw().finally(() => { drawing = null; });
}

async function draw() {
  while (stale) {
    stale = false;
    const url = location.href, target = route();
    if (url !== shown) main.setAttribute('aria-busy', 'true');
    try {
      const drawn = await page(target);
      if (url !== location.href) { stale = true; continue; }
      // A different page starts empty; a different filter of the same page keeps the focus.
      if (pathOf(url) !== pathOf(shown)) main.replaceChildren();
      show(drawn);
      shown = url;
    } catch (error) {
      if (url !== location.href) { stale = true; continue; }
      showError(error, url);
    }
  }
}

// After a lost connection the page stays as it is; any other error replaces it.
function showError(error, url) {
  console.info(error.message);
  if (error.status === 0 && url === shown) return setStatus('lost', error.message);
  const message = error.status === undefined ? `Page error: ${error.message}` : error.message;
  show({ title: 'Error', crumbs: [], content: [el('h1', error.status === 404 ? 'Not found' : 'Error'), el('p.error.box', message), el('p', el('a', { href: '/' }, 'All runs'))] });
  shown = '';
}

function setStatus(kind, text) {
  live.className = kind;
  live.textContent = text;
}

// The coordinator sends an event after each change. A hidden page closes its stream: a browser has few connections per host.
let source, scope, timer;
function listen() {
  const next = document.hidden ? null : `/api/events${route().run ? '?run=' + encodeURIComponent(route().run) : ''}`;
  if (next === scope && source?.readyState !== EventSource.CLOSED) return;
  source?.close();
  clearInterval(timer);
  scope = next;
  if (!next) return setStatus('', '');
  source = new EventSource(next);
  source.addEventListener('open', () => { clearInterval(timer); setStatus('on', 'live'); });
  source.addEventListener('change', refresh);
  source.addEventListener('error', () => {
    setStatus('lost', `polling every ${POLL_MS / 1000} s`);
    clearInterval(timer);
    timer = setInterval(() => { refresh(); if (source.readyState === EventSource.CLOSED) listen(); }, POLL_MS);
  });
}

function navigate(url, jump = true, replace = !jump) {
  history[replace ? 'replaceState' : 'pushState'](null, '', url);
  listen();
  refresh();
  if (jump) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
}

document.addEventListener('click', (event) => {
  const link = event.target.closest?.('a[href^="/"]:not([href^="/report/"]):not([download])');
  if (!link || event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
  event.preventDefault();
  navigate(link.getAttribute('href'));
});
const keys = document.getElementById('keys');
document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return;
  if (event.key === 'Escape' && event.target.matches('input, select')) return event.target.blur();
  if (event.target.matches('input, select, textarea')) return;
  if (event.key === '?') return keys.showModal();
  const field = event.key === '/' && document.getElementById('f-q');
  const link = document.querySelector(`[data-hotkey="${CSS.escape(event.key)}"]`);
  if (!field && !link) return;
  event.preventDefault();
  if (field) field.focus();
  else link.click();
});
document.addEventListener('action-done', refresh);
addEventListener('popstate', () => { listen(); refresh(); });
document.addEventListener('visibilitychange', () => { listen(); if (!document.hidden) refresh(); });

get('/api/site').then((loaded) => {
  site = loaded;
  const logOut = async () => {
    // No request may be in flight when the session ends: it would be refused.
    source?.close();
    clearInterval(timer);
    await drawing;
    await post('/logout').catch((error) => { listen(); throw error; });
    location.href = '/login';
  };
  if (site.log_in) document.getElementById('who').replaceChildren(site.who, ' ', el('button.small', { type: 'button', onclick: logOut }, 'Log out'));
  document.body.classList.toggle('read-only', site.read_only);
  document.getElementById('workers').hidden = site.finished;
  document.getElementById('version').textContent = `Longhand ${site.version}`;
}).catch((error) => console.info(error.message)).finally(() => { listen(); refresh(); });
