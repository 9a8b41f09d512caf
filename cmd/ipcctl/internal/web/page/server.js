// One server: what it is, and its methods, messages and topics.

let chosen = ''; // the name of the server or group
let served = null; // what it serves
let open = null; // the panel that is open

async function choose(name, item) {
  if (name !== chosen) {
    chosen = name;
    served = null;
    close();
    $('#aside').hidden = false;
    $('main').classList.add('split');
    $('#detail').replaceChildren(detailHeader(name), el('p', {class: 'facts'}, 'Asking …'));
    markChosen();
    try {
      const told = await ask('describe', {name});
      if (chosen !== name) return;
      served = told;
      $('#detail').replaceChildren(detailHeader(name), choices());
    } catch (e) {
      if (chosen === name)
        $('#detail').replaceChildren(
          detailHeader(name),
          el('p', {class: 'trouble', role: 'alert'}, e.message),
        );
      return;
    }
  }
  const first = item ?? $('#detail .choices button')?.dataset.item;
  if (first && open?.item !== first) openPanel(first);
  if (matchMedia('(max-width: 1179px)').matches) $('#detail').scrollIntoView({block: 'start'});
}

function markChosen() {
  for (const row of $('#servers tbody').children)
    row.classList.toggle('chosen', row.querySelector('button').textContent === chosen);
}

function unchoose() {
  chosen = '';
  close();
  $('#aside').hidden = true;
  $('main').classList.remove('split');
  markChosen();
}

function close() {
  open?.abort?.abort();
  open = null;
}

function detailHeader(name) {
  const d = served?.description,
    facts = !d
      ? ''
      : [
          [d.program, d.version].filter(Boolean).join(' '),
          d.runtime && 'ipcgen ' + d.runtime,
          d.go,
          'pid ' + d.pid,
        ]
          .filter(Boolean)
          .join(' · ');
  const isGroup = now.groups.some(g => g.name === name);
  return el(
    'header',
    null,
    el('h2', {class: 'mono'}, name),
    el('span', {class: 'facts'}, isGroup ? 'The group: its primary answers. ' + facts : facts),
    el(
      'span',
      {class: 'orders'},
      isGroup ? null : small('Drain …', () => order('drain', name)),
      el('button', {class: 'small', type: 'button', 'aria-label': 'Close', onclick: unchoose}, '✕'),
    ),
  );
}

// choices has a button for each method, message and topic.
function choices() {
  const short = name => name.split('.').pop();
  const buttons = (kind, list, title) =>
    !list?.length
      ? null
      : el(
          'div',
          {class: 'fields'},
          el('div', {class: 'title'}, title),
          el(
            'div',
            {class: 'choices', role: 'group', 'aria-label': title},
            ...list.map(m =>
              el(
                'button',
                {
                  type: 'button',
                  'aria-pressed': 'false',
                  'data-item': kind + ' ' + m.name,
                  title: m.name,
                  onclick: () => openPanel(kind + ' ' + m.name),
                },
                short(m.name),
                el('small'),
              ),
            ),
          ),
        );
  const f = served.forms,
    all = [
      buttons('method', f.methods, 'Methods'),
      buttons('message', f.messages, 'One-way messages'),
      buttons('topic', f.topics, 'Topics'),
    ].filter(Boolean);
  return el(
    'div',
    {class: 'fields'},
    ...(all.length
      ? all
      : [el('p', {class: 'facts'}, served.note || 'It serves nothing that can be called.')]),
    el(
      'div',
      {class: 'fields', id: 'processes', hidden: true},
      el('div', {class: 'title'}, 'Clients'),
      el('ul', {class: 'facts'}),
    ),
  );
}

// processText says what a client's process does.
function processText(p) {
  const calls = p.in_flight === 1 ? '1 call' : `${count(p.in_flight)} calls`;
  return (
    (p.pid ? `pid ${p.pid}` : 'a process of another namespace') +
    `: ${calls} in flight, sends ${rate(p.received_per_second)}/s,` +
    ` gets ${rate(p.sent_per_second)}/s` +
    (p.waiting ? ` · ${p.waiting}` : '')
  );
}

// updateDetail shows beside each method how often it is called, and below them who calls.
function updateDetail() {
  const group = now.groups.find(g => g.name === chosen);
  const server = now.servers.find(s => s.name === (group ? group.primary : chosen));
  const clients = $('#processes');
  if (clients) {
    const processes = server?.processes ?? [];
    clients.hidden = !processes.length;
    keep(
      clients.lastChild,
      processes,
      p => p.pid,
      () => el('li'),
      (li, p) => put(li, processText(p)),
    );
  }
  const busy = new Map((server?.methods ?? []).map(m => [m.name, m]));
  for (const b of document.querySelectorAll('#detail .choices button')) {
    const m = busy.get(b.dataset.item.replace(/^\w+ /, ''));
    put(
      b.lastChild,
      !m
        ? ''
        : `${rate(m.calls_per_second)}/s` +
            (m.p99_ns ? ` · p99 ${duration(m.p99_ns)}` : '') +
            (m.in_flight ? ` · ${m.in_flight} in flight` : ''),
    );
  }
}

// openPanel opens the form of a method, a message or a topic.
function openPanel(item) {
  close();
  const [kind, name] = [item.slice(0, item.indexOf(' ')), item.slice(item.indexOf(' ') + 1)];
  const decl = served.forms[kind + 's']?.find(m => m.name === name);
  if (!decl) return;
  open = {item, kind, decl, name: chosen, schema: served.schema};
  for (const b of document.querySelectorAll('#detail .choices button'))
    b.setAttribute('aria-pressed', b.dataset.item === item);
  $('#detail .panel')?.remove();
  $('#detail').append(panel(open));
}
