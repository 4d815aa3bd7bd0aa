// What the coordinator is asked. Its refusals come as errors with its own words.

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(url, options) {
  let answer;
  try {
    answer = await fetch(url, options);
  } catch {
    throw new Refused(0, 'No answer from the coordinator; trying again.');
  }
  if (answer.status === 401) {
    location.href = '/login';
    throw new Refused(401, 'Log in first.');
  }
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  const text = await answer.text();
  let message = text;
  try {
    message = JSON.parse(text).error ?? text;
  } catch {
    // The framework's own refusals are plain texts.
  }
  throw new Refused(answer.status, message || answer.statusText);
}

export const get = (url) => ask(url, { headers: { accept: 'application/json' } });
// No other site can send this header for us.
export const post = (url, body = {}) =>
  ask(url, { method: 'POST', headers: { 'content-type': 'application/json', 'x-longhand': '1' }, body: JSON.stringify(body) });

const part = encodeURIComponent;
export const api = (run, more = '') => `/api/runs/${part(run)}${more}`;
export const at = {
  run: (run) => `/runs/${part(run)}`,
  report: (run) => `/report/${part(run)}`,
  documents: (run, query) => {
    const search = new URLSearchParams(query).toString();
    return `/runs/${part(run)}/documents${search && '?' + search}`;
  },
  document: (run, id) => `/runs/${part(run)}/documents/${part(id)}`,
};
