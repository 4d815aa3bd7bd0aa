// Builds elements, and updates the shown page to a newly drawn one with few changes.
// Every text of a run becomes a text node, never markup.

const SVG = new Set(['svg', 'path', 'rect', 'line', 'g', 'title', 'circle', 'text']);
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
  // A select takes its value once it has its options.
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

// Updates `old` to look like `fresh`; keeps focus, selection, typed text and opened sections.
export function morph(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !isUserState(old, name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (isUserState(old, name)) continue;
    // The content security policy forbids a style attribute set as text.
    if (name === 'style') {
      if (old.style.cssText !== fresh.style.cssText) old.style.cssText = fresh.style.cssText;
    } else if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const name of HANDLERS) old[name] = fresh[name];
  morphChildren(old, fresh);
  if ('value' in old && old.matches('input, select') && old !== document.activeElement) old.value = fresh.value;
}

// State that belongs to the user, not to the page.
const isUserState = (node, name) => (name === 'open' && node.nodeName === 'DETAILS') || (node.dataset.busy && (name === 'disabled' || name === 'data-busy'));

export function morphChildren(old, fresh) {
  const keyed = new Map();
  for (const child of old.children) if (child.dataset.key) keyed.set(child.dataset.key, child);
  let at = old.firstChild;
  for (const next of [...fresh.childNodes]) {
    const key = next.dataset?.key;
    const match = key ? keyed.get(key) : at && sameKind(at, next) ? at : undefined;
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

const sameKind = (a, b) => a.nodeName === b.nodeName && !a.dataset?.key;
