// Numbers, durations and times for display. The thousands separator is a comma.

export const number = (n) => Math.round(n ?? 0).toLocaleString('en');
export const short = (n) =>
  n >= 1e9 ? `${(n / 1e9).toFixed(1)} bn` : n >= 1e6 ? `${(n / 1e6).toFixed(n >= 1e7 ? 0 : 1)} M` : n >= 1e4 ? `${(n / 1e3).toFixed(0)} k` : number(n);
export const percent = (part, whole) => (whole > 0 ? `${Math.round((100 * part) / whole)} %` : '–');
export const plural = (n, one, many = one + 's') => `${number(n)} ${n === 1 ? one : many}`;

export function span(ms) {
  const s = Math.max(0, ms / 1000);
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.round(s)} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  if (s < 172800) {
    const minutes = Math.round(s / 60);
    return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  }
  return `${Math.round(s / 86400)} days`;
}

export const ago = (ms, now) => (now - ms < 2000 ? 'now' : `${span(now - ms)} ago`);
export const clock = (ms, seconds) =>
  new Date(ms).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: seconds ? '2-digit' : undefined });
export const moment = (ms) => new Date(ms).toLocaleString([], { dateStyle: 'medium', timeStyle: 'short' });
