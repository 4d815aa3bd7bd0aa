// The dashboard: which page is shown, and when it is drawn anew.

import { get, post } from './api.js';
import { documentPage } from './document.js';
import { documentsPage } from './documents.js';
import { el, morphChildren } from './dom.js';
import { runPage } from './run.js';
import { runsPage } from './runs.js';
import { workersPage } from './workers.js';

const main = document.getElementById('main');
const path = document.getElementById('path');
const live = document.getElementById('live');
// Where nothing tells of changes, the page asks now and then.
const ASK_MS = 5000;

let site = {};

function place() {
  const parts = location.pathname.split('/').filter(Boolean).map(decodeURIComponent);
  const run = parts[0] === 'runs' ? parts[1] : undefined;
  return { parts, run, query: new URLSearchParams(location.search) };
}

function page({ parts, run, query }) {
  if (parts[0] === 'workers') return workersPage();
  if (!run) return runsPage();
  if (parts[2] !== 'documents') return runPage(run);
  return parts[3] ? documentPage(run, parts[3], query, site) : documentsPage(run, query, navigate);
}

function show({ title, crumbs, content }) {
  document.title = `${title} – Longhand`;
  morphChildren(path, el('nav', crumbs.map(([text, href]) => [' / ', href ? el('a', { href }, text) : el('span', { 'aria-current': 'page' }, text)])));
  morphChildren(main, el('main', content));
  main.setAttribute('aria-busy', 'false');
}

const pathOf = (url) => url.split('?')[0];

// One question at a time; what changed meanwhile is asked for after it.
let asking = null, stale = false, shown = '';
function refresh() {
  stale = true;
  asking ??= draw().finally(() => { asking = null; });
}

async function draw() {
  while (stale) {
    stale = false;
    const url = location.href, here = place();
    if (url !== shown) main.setAttribute('aria-busy', 'true');
    try {
      const drawn = await page(here);
      if (url !== location.href) { stale = true; continue; }
      // Another page begins anew; another filter of the same page leaves the cursor where it is.
      if (pathOf(url) !== pathOf(shown)) main.replaceChildren();
      show(drawn);
      shown = url;
    } catch (error) {
      if (url !== location.href) { stale = true; continue; }
      trouble(error, url);
    }
  }
}

// A page that was there stays; one that cannot be had says why.
function trouble(error, url) {
  console.info(error.message);
  if (error.status === 0 && url === shown) return tell('lost', error.message);
  const words = error.status === undefined ? `This page broke: ${error.message}` : error.message;
  show({ title: 'Trouble', crumbs: [], content: [el('h1', error.status === 404 ? 'Not here' : 'Trouble'), el('p.error.box', words), el('p', el('a', { href: '/' }, 'To all runs'))] });
  shown = '';
}

function tell(kind, words) {
  live.className = kind;
  live.textContent = words;
}

// Changes are told by the coordinator; a page that nobody sees listens to nothing, as a browser has few connections.
let source, scope, timer;
function listen() {
  const next = document.hidden ? null : `/api/events${place().run ? '?run=' + encodeURIComponent(place().run) : ''}`;
  if (next === scope && source?.readyState !== EventSource.CLOSED) return;
  source?.close();
  clearInterval(timer);
  scope = next;
  if (!next) return tell('', '');
  source = new EventSource(next);
  source.addEventListener('open', () => { clearInterval(timer); tell('on', 'live'); });
  source.addEventListener('change', refresh);
  source.addEventListener('error', () => {
    tell('lost', 'asking every 5 s');
    clearInterval(timer);
    timer = setInterval(() => { refresh(); if (source.readyState === EventSource.CLOSED) listen(); }, ASK_MS);
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
  const link = event.target.closest?.('a[href^="/"]:not([href^="/report/"])');
  if (!link || event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
  event.preventDefault();
  navigate(link.getAttribute('href'));
});
document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches('input, select, textarea') || document.querySelector('dialog[open]')) return;
  const field = event.key === '/' && document.getElementById('f-q');
  const link = document.querySelector(`[data-hotkey="${CSS.escape(event.key)}"]`);
  if (!field && !link) return;
  event.preventDefault();
  if (field) field.focus();
  else link.click();
});
document.addEventListener('done', refresh);
addEventListener('popstate', () => { listen(); refresh(); });
document.addEventListener('visibilitychange', () => { listen(); if (!document.hidden) refresh(); });

get('/api/site').then((told) => {
  site = told;
  const leave = async () => {
    // Whoever leaves asks nothing more: it would be refused.
    source?.close();
    clearInterval(timer);
    await asking;
    await post('/logout').catch((error) => { listen(); throw error; });
    location.href = '/login';
  };
  if (told.log_in) document.getElementById('who').replaceChildren(told.who, ' ', el('button.small', { type: 'button', onclick: leave }, 'Log out'));
  document.getElementById('version').textContent = `Longhand ${told.version}`;
}).catch((error) => console.info(error.message)).finally(() => { listen(); refresh(); });
