// Elements, and how a page that is drawn anew takes the place of the old one.
// Every text of a run is put in as a text node, never as markup.

const SVG = new Set(['svg', 'path', 'rect', 'line', 'g', 'title']);
const HANDLERS = ['onclick', 'oninput', 'onchange', 'onkeydown', 'ontoggle'];

// el('a.link', { href }, child, ...): children are nodes, texts, lists of them, or nothing.
export function el(spec, ...rest) {
  const [tag, ...classes] = spec.split('.');
  const node = SVG.has(tag) ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag);
  if (classes.length) node.setAttribute('class', classes.join(' '));
  let value;
  for (const part of rest.flat(Infinity)) {
    if (part === null || part === undefined || part === false || part === '') continue;
    if (part instanceof Node) node.append(part);
    else if (typeof part === 'object') value = set(node, part) ?? value;
    else node.append(String(part));
  }
  // A list takes its value once it has its choices.
  if (value !== undefined) node.value = value;
  return node;
}

function set(node, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith('on')) node[name] = value;
    else if (name === 'style') for (const [rule, to] of Object.entries(value)) node.style.setProperty(rule, to);
    else if (name === 'value') continue;
    else if (value === true) node.setAttribute(name, '');
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  return properties.value;
}

// Makes `old` look like `fresh` and keeps all that need not change: focus, a marked text, what a person typed or opened.
export function morph(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !theirs(old, name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (theirs(old, name)) continue;
    // The page may not set a style as a text: that is what a foreign markup would do.
    if (name === 'style') {
      if (old.style.cssText !== fresh.style.cssText) old.style.cssText = fresh.style.cssText;
    } else if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const name of HANDLERS) old[name] = fresh[name];
  morphChildren(old, fresh);
  if ('value' in old && old.matches('input, select') && old !== document.activeElement) old.value = fresh.value;
}

// What belongs to the person, not to the page.
const theirs = (node, name) => (name === 'open' && node.nodeName === 'DETAILS') || (node.dataset.busy && (name === 'disabled' || name === 'data-busy'));

export function morphChildren(old, fresh) {
  const keyed = new Map();
  for (const child of old.children) if (child.dataset.key) keyed.set(child.dataset.key, child);
  let at = old.firstChild;
  for (const next of [...fresh.childNodes]) {
    const key = next.dataset?.key;
    const match = key ? keyed.get(key) : at && alike(at, next) ? at : undefined;
    if (!match || match.nodeName !== next.nodeName) {
      old.insertBefore(next, at);
      continue;
    }
    if (match === at) at = at.nextSibling;
    else old.insertBefore(match, at);
    morph(match, next);
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

const alike = (a, b) => a.nodeName === b.nodeName && !a.dataset?.key;
