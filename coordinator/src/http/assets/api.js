// Requests to the coordinator. An error response becomes an ApiError with the message of the response.

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function request(url, options) {
  let response;
  try {
    response = await fetch(url, options);
  } catch {
    throw new ApiError(0, 'No response from the coordinator. Retrying.');
  }
  if (response.status === 401) {
    location.href = '/login';
    throw new ApiError(401, 'Login required.');
  }
  if (response.ok) return response.status === 204 ? null : response.json();
  const text = await response.text();
  let message = text;
  try {
    message = JSON.parse(text).error ?? text;
  } catch {
    // Errors of the HTTP framework are plain text.
  }
  throw new ApiError(response.status, message || response.statusText);
}

export const get = (url) => request(url, { headers: { accept: 'application/json' } });
// Another site cannot send this header.
export const post = (url, body = {}) =>
  request(url, { method: 'POST', headers: { 'content-type': 'application/json', 'x-longhand': '1' }, body: JSON.stringify(body) });

const part = encodeURIComponent;
export const api = (run, more = '') => `/api/runs/${part(run)}${more}`;
export const at = {
  run: (run) => `/runs/${part(run)}`,
  report: (run) => `/report/${part(run)}`,
  corpus: (run, kind) => `/corpus/${part(run)}/corpus.${kind}`,
  text: (run, id) => api(run, `/documents/${part(id)}/text`),
  documents: (run, query) => {
    const search = new URLSearchParams(query).toString();
    return `/runs/${part(run)}/documents${search && '?' + search}`;
  },
  document: (run, id) => `/runs/${part(run)}/documents/${part(id)}`,
};
