// What lives.

const p99s = new Map(); // the last minute of each channel, as this page has seen it
let now = {servers: [], groups: []}; // the last news

async function live() {
  for (;;) {
    try {
      for await (const news of lines('live', {})) {
        state('live', 'live');
        if (news.view) show(news.view, news.groups ?? []);
        if (news.events) tell(news.events);
      }
    } catch (e) {
      if (e.status === 401) return locked(e.message);
      if (!(e instanceof TypeError && /fetch|network/i.test(e.message))) console.error(e);
    }
    state('lost', 'no connection: ipcctl web has ended');
    await new Promise(done => setTimeout(done, 1000));
  }
}

function state(name, text) {
  dress($('#state'), name);
  put($('#state'), text);
}

function locked(why) {
  state('lost', 'locked');
  $('#nobody').replaceChildren(el('b', null, 'This page is locked. '), why + '.');
}

function show(view, groups) {
  const servers = view.servers ?? [];
  now = {servers, groups};
  put($('#domain'), view.domain || '');
  $('#trouble').hidden = !view.trouble || !view.domain;
  put($('#trouble'), view.trouble || '');
  $('#nobody').hidden = servers.length > 0;
  $('#servers table').hidden = servers.length === 0;
  if (!servers.length) empty(view);
  keep($('#servers tbody'), servers, s => s.channel, serverRow, updateServer);
  $('#groups').hidden = groups.length === 0;
  keep($('#groups'), groups, g => g.name, groupCard, updateGroup);
  const topics = servers.flatMap(s => (s.topics ?? []).map(t => ({...t, server: s})));
  $('#topics').hidden = topics.length === 0;
  keep($('#topics tbody'), topics, t => t.server.channel + ' ' + t.name, topicRow, updateTopic);
  for (const c of p99s.keys()) if (!servers.some(s => s.channel === c)) p99s.delete(c);
  if (chosen) updateDetail();
}

function empty(view) {
  const code = text => el('code', null, text);
  $('#nobody').replaceChildren(
    el(
      'b',
      null,
      view.domain ? 'No server lives in this domain. ' : 'Nobody has used this domain yet. ',
    ),
    'Start one, such as the demo with ',
    code('go run ./cmd/audio_host'),
    ', and it shows up here by itself. ',
    'A program that uses another domain is seen by ',
    code('ipcctl web -domain NAME'),
    '. ',
    view.domain ? '' : el('span', {class: 'facts'}, '(' + view.trouble + ')'),
  );
}

const cell = (label, name) => el('td', {'data-label': label, class: name});

function serverRow(s) {
  const drawn = (label, name) => {
    const td = cell(label, 'drawn');
    td.append(el('div', null, sparkline(name), el('span')));
    return td;
  };
  return el(
    'tr',
    null,
    el(
      'td',
      null,
      el(
        'div',
        {class: 'who'},
        el('button', {class: 'link mono', type: 'button', onclick: () => choose(s.name)}),
        el('span', {class: 'badge'}),
        el('span', {class: 'facts'}),
      ),
      el('div', {class: 'waiting'}),
    ),
    cell('Clients'),
    cell('In flight'),
    drawn('Calls/s', 'calls'),
    cell('Errors/s'),
    cell('p50'),
    drawn('p99', 'p99'),
  );
}

function updateServer(row, s) {
  const [who, clients, flight, calls, errors, p50, p99] = row.children;
  const [name, badge, facts] = who.firstChild.children;
  put(name, s.name);
  const role = (s.role ?? '').toLowerCase();
  badge.hidden = !role || role === 'none';
  put(badge, role);
  dress(badge, 'badge ' + role);
  put(
    facts,
    [s.epoch ? `epoch ${s.epoch}` : '', s.pid ? `pid ${s.pid}` : ''].filter(Boolean).join(' · '),
  );
  put(who.lastChild, s.waiting ?? '');
  for (const [td, text] of [
    [clients, count(s.clients)],
    [flight, count(s.in_flight)],
    [calls.firstChild.lastChild, rate(s.calls_per_second)],
    [errors, rate(s.errors_per_second)],
    [p50, duration(s.p50_ns)],
    [p99.firstChild.lastChild, duration(s.p99_ns)],
  ])
    put(td, text);
  plot(calls.firstChild.firstChild, s.history ?? [], n => rate(n) + ' calls a second');
  const seen = p99s.get(s.channel) ?? [];
  seen.push(s.p99_ns);
  p99s.set(s.channel, seen.slice(-60));
  plot(p99.firstChild.firstChild, seen, duration);
  row.classList.toggle('chosen', s.name === chosen);
}

function groupCard(g) {
  return el(
    'article',
    {class: 'group'},
    el(
      'header',
      null,
      el(
        'h3',
        null,
        el(
          'button',
          {
            class: 'link mono',
            type: 'button',
            onclick: () => choose(g.name),
            title: 'Call the group: its primary answers',
          },
          g.name,
        ),
      ),
      el('span', {class: 'facts'}),
      el(
        'span',
        {class: 'orders'},
        small('Fail over …', () => order('failover', g.name)),
        small('Roll …', () => order('roll', g.name)),
      ),
    ),
    el('div', {class: 'waiting'}),
    el('ol', {class: 'replicas'}),
  );
}

function updateGroup(card, g) {
  const [header, trouble, replicas] = card.children;
  put(
    header.children[1],
    [
      `epoch ${g.epoch}`,
      g.supervisor ? `supervisor ${g.supervisor}` : '',
      g.replicates ? 'keeps a state' : '',
    ]
      .filter(Boolean)
      .join(' · '),
  );
  header.children[2].hidden = !g.supervisor;
  put(
    trouble,
    [
      g.trouble,
      g.degraded ? 'degraded: the limit of restarts was reached' : '',
      g.quarantined ? `${g.quarantined} requests are refused, because they ended processes` : '',
    ]
      .filter(Boolean)
      .join('; '),
  );
  keep(
    replicas,
    g.replicas ?? [],
    r => r.name,
    replicaBox,
    (box, r) => updateReplica(box, r, g),
  );
}

function replicaBox() {
  return el(
    'li',
    null,
    el('b', {class: 'mono'}),
    el('span', {class: 'badge'}),
    el('span', {class: 'facts'}),
    el('span', {class: 'error'}),
  );
}

function updateReplica(box, r, g) {
  const role = !r.pid
    ? 'dead'
    : r.name === g.primary
      ? 'primary'
      : r.ready
        ? 'standby'
        : 'starting';
  const mark = `${role} ${r.pid}`;
  if (box.mark !== mark) {
    box.classList.remove('fresh');
    dress(box, 'replica ' + role);
    if (box.mark) requestAnimationFrame(() => box.classList.add('fresh'));
    box.mark = mark;
  }
  const [name, badge, facts, error] = box.children;
  put(name, r.name);
  put(badge, role === 'dead' ? 'no process' : role);
  dress(badge, 'badge ' + role);
  put(
    facts,
    [
      r.pid ? `pid ${r.pid}` : 'the supervisor starts one',
      r.in_sync ? 'in sync' : '',
      r.restarts === 1 ? '1 restart' : r.restarts ? `${r.restarts} restarts` : '',
    ]
      .filter(Boolean)
      .join(' · '),
  );
  put(error, r.error ?? '');
}

function topicRow(t) {
  return el(
    'tr',
    null,
    el(
      'td',
      null,
      el(
        'div',
        {class: 'who'},
        el('button', {
          class: 'link mono',
          type: 'button',
          onclick: () => choose(t.server.name, 'topic ' + t.name),
        }),
        el('span', {class: 'facts'}),
      ),
    ),
    el('td'),
    el('td'),
    el('td'),
  );
}
function updateTopic(row, t) {
  const [who, subscribers, messages, published] = row.children;
  put(who.firstChild.firstChild, t.name);
  put(who.firstChild.lastChild, t.server.name);
  put(subscribers, count(t.subscribers));
  put(messages, rate(t.messages_per_second));
  put(published, count(t.published));
}

function tell(events) {
  const list = $('#events');
  for (const e of events) {
    const at = new Date(e.at),
      ms = String(at.getMilliseconds()).padStart(3, '0');
    list.prepend(
      el(
        'li',
        {class: e.kind, 'data-kind': e.kind},
        el('time', {datetime: e.at, class: 'mono'}, at.toLocaleTimeString('en-GB') + '.' + ms),
        el('b', {class: 'mono'}, e.name),
        el('span', {class: 'what'}, e.text),
      ),
    );
  }
  while (list.children.length > 200) list.lastChild.remove();
  list.hidden = !list.children.length;
  $('#nothing').hidden = !list.hidden;
}
