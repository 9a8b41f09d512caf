// Elements. Names, comments and errors come from other processes: they become text, never markup.

const $ = selector => document.querySelector(selector);

// el makes an element. Properties whose names begin with "on" are listeners.
function el(tag, props, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (name.startsWith('on')) e.addEventListener(name.slice(2), value);
    else if (value === true) e.setAttribute(name, '');
    else if (value !== false && value != null) e.setAttribute(name, value);
  }
  e.append(...children.filter(c => c != null));
  return e;
}

// small makes a small button.
const small = (text, onclick) => el('button', {class: 'small', type: 'button', onclick}, text);

// put sets a text or a class, if it is another one: what stays the same is not touched.
function put(e, text) {
  if (e.textContent !== text) e.textContent = text;
}
function dress(e, name) {
  if (e.className !== name) e.className = name;
}

// keep makes the children of a parent stand for a list. Each is made once, for as long as its key
// is in the list, so that the focus and what was typed stay.
function keep(parent, list, keyOf, make, update) {
  const known = (parent.known ??= new Map()),
    gone = new Set(known.keys());
  let behind = null;
  for (const one of list) {
    const key = keyOf(one);
    let child = known.get(key);
    if (!child) known.set(key, (child = make(one)));
    gone.delete(key);
    const next = behind ? behind.nextElementSibling : parent.querySelector(':scope > .kept');
    child.classList.add('kept');
    update(child, one);
    child.classList.add('kept');
    if (next !== child) parent.insertBefore(child, next);
    behind = child;
  }
  for (const key of gone) {
    known.get(key).remove();
    known.delete(key);
  }
}

const rate = n =>
  !n ? '–' : n >= 1000 ? Math.round(n).toLocaleString('en') : String(+n.toPrecision(3));
const sentence = text => text.charAt(0).toUpperCase() + text.slice(1);
const count = n => (n ?? 0).toLocaleString('en');
function duration(ns) {
  if (!ns) return '–';
  for (const [unit, size] of [
    ['s', 1e9],
    ['ms', 1e6],
    ['µs', 1e3],
  ])
    if (ns >= size) return +(ns / size).toPrecision(3) + '\u202f' + unit;
  return ns + '\u202fns';
}

// A sparkline shows the last minute; its full height is the highest value.
function sparkline(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('class', 'spark ' + name);
  svg.setAttribute('viewBox', '0 0 60 20');
  svg.setAttribute('preserveAspectRatio', 'none');
  svg.setAttribute('role', 'img');
  for (const tag of ['polygon', 'polyline'])
    svg.append(document.createElementNS(svg.namespaceURI, tag));
  return svg;
}
function plot(svg, values, show) {
  const most = Math.max(...values, 0),
    last = most ? values.slice(-60) : [];
  const points = last.map(
    (v, i) => `${60 - last.length + i + 0.5},${(19 - (v / most) * 18).toFixed(1)}`,
  );
  svg.lastChild.setAttribute('points', points.join(' '));
  svg.firstChild.setAttribute(
    'points',
    points.length ? `${60.5 - last.length},20 ${points.join(' ')} 59.5,20` : '',
  );
  svg.setAttribute('aria-label', most ? `up to ${show(most)}` : 'nothing');
}
