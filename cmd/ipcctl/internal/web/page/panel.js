// The panel of a method, a message or a topic: its form, the same as JSON, and what comes back.

const kindOf = {
  unary: '',
  client: 'the client streams',
  server: 'the server streams',
  bidi: 'both sides stream',
};

function panel(p) {
  const d = p.decl,
    flows = p.kind === 'topic' || d.streaming === 'client' || d.streaming === 'bidi';
  p.form = form(p);
  p.results = el('div', {class: 'fields', 'aria-live': 'polite'});
  p.send = el('button', {class: 'main', type: 'submit'});
  p.end = el('button', {type: 'button', hidden: true, onclick: () => endItems(p)}, 'End of items');
  p.cancel = el(
    'button',
    {type: 'button', hidden: true, onclick: () => p.abort?.abort()},
    'Cancel',
  );
  p.listen =
    p.kind !== 'topic'
      ? null
      : el('button', {type: 'button', class: 'main', onclick: () => listen(p)}, 'Subscribe');
  p.deadline = el('input', {
    inputmode: 'decimal',
    placeholder:
      p.kind === 'method' && d.streaming !== 'unary' && !d.timeout_ms
        ? 'none'
        : String((d.timeout_ms || 10000) / 1000),
    'aria-label': 'Deadline in seconds',
  });
  p.pairs = el('div', {class: 'fields'});
  p.channel = el('input', {value: chosen + '.web', 'aria-label': 'Channel'});
  p.flows = flows;
  label(p);
  const facts = [
    kindOf[d.streaming],
    d.idempotent && 'idempotent',
    d.read_only && 'read only',
    d.payload && 'with a payload',
  ]
    .filter(Boolean)
    .join(', ');
  const more =
    p.kind === 'topic'
      ? []
      : [
          el(
            'label',
            null,
            el('span', null, 'Deadline', el('span', {class: 'kind'}, 'seconds')),
            p.deadline,
          ),
          el('button', {type: 'button', onclick: () => addPair(p)}, 'Add metadata'),
        ];
  const f = el(
    'form',
    {
      class: 'panel',
      novalidate: true,
      onsubmit: e => {
        e.preventDefault();
        submit(p);
      },
    },
    el('h3', {class: 'mono'}, d.name, facts ? el('span', {class: 'kind'}, facts) : null),
    d.doc ? el('p', {class: 'doc'}, d.doc) : null,
    p.kind !== 'topic' ? null : el('div', {class: 'row'}, p.listen, p.cancel),
    p.kind !== 'topic' ? null : el('div', {class: 'title'}, 'Publish on a channel of its own'),
    p.form.box,
    p.pairs,
    el(
      'div',
      {class: 'row'},
      p.kind !== 'topic' ? null : el('label', null, el('span', null, 'Channel'), p.channel),
      ...more,
      p.send,
      p.end,
      p.kind === 'topic' ? null : p.cancel,
    ),
    p.results,
  );
  return f;
}

// label says what the buttons do now.
function label(p) {
  const busy = !!p.abort;
  put(
    p.send,
    p.kind === 'topic'
      ? p.stream
        ? 'Publish another'
        : 'Publish'
      : p.kind === 'message'
        ? 'Send'
        : !p.flows
          ? p.decl.streaming === 'server'
            ? 'Start'
            : 'Call'
          : p.stream
            ? 'Send item'
            : 'Start with this item',
  );
  p.send.disabled = busy && !p.stream;
  p.end.hidden = !p.stream;
  p.cancel.hidden = !busy;
  put(p.end, p.kind === 'topic' ? 'Stop publishing' : 'End of items');
  if (p.listen) p.listen.disabled = busy;
}

function addPair(p) {
  const pair = el(
    'div',
    {class: 'line'},
    el(
      'div',
      {class: 'pair'},
      el('input', {placeholder: 'key', 'aria-label': 'Key of metadata'}),
      el('input', {placeholder: 'value', 'aria-label': 'Value of metadata'}),
    ),
    el('button', {type: 'button', 'aria-label': 'Remove', onclick: () => pair.remove()}, '✕'),
  );
  p.pairs.append(pair);
  pair.querySelector('input').focus();
}

function options(p) {
  const seconds = parseFloat(p.deadline.value);
  return {
    timeout_ms: seconds > 0 ? Math.max(1, Math.round(seconds * 1000)) : 0,
    metadata: [...p.pairs.children].map(pair =>
      [...pair.querySelectorAll('input')].map(i => i.value),
    ),
  };
}

async function submit(p) {
  p.form.clear();
  const text = p.form.text();
  try {
    if (p.stream) {
      const entry = note(p, 'sent', text);
      try {
        const {fault} = await ask('item', {stream: p.stream, text});
        if (!fault) return;
        p.form.fault(fault);
      } catch (e) {
        failed(p, e);
      }
      return entry.remove();
    }
    if (p.abort) return;
    const base = {name: p.name, schema: p.schema, item: p.decl.name};
    p.results.replaceChildren();
    if (p.kind === 'topic')
      await run(p, 'publish', {
        schema: p.schema,
        item: p.decl.name,
        channel: p.channel.value,
        text,
      });
    else if (p.kind === 'message') await run(p, 'send', {...base, text, ...options(p)});
    else await run(p, 'call', {...base, text, ...options(p)});
  } catch (e) {
    failed(p, e);
  }
}

async function listen(p) {
  p.results.replaceChildren();
  try {
    await run(p, 'subscribe', {name: p.name, schema: p.schema, item: p.decl.name});
  } catch (e) {
    failed(p, e);
  }
}

async function endItems(p) {
  try {
    await ask('item', {stream: p.stream, last: true});
  } catch (e) {
    failed(p, e);
  }
}

// run asks, and shows each line that comes.
async function run(p, path, body) {
  p.abort = new AbortController();
  label(p);
  let ended = false,
    reply; // of a call that does not stream
  try {
    for await (const line of lines(path, body, p.abort.signal)) {
      if (line.fault) {
        p.form.fault(line.fault);
        ended = true;
      }
      if (line.open) {
        p.stream = line.open;
        note(p, 'sent', body.text);
        label(p);
      }
      if (line.note) note(p, 'note', line.note);
      if (line.item === undefined) {
        /* no item */
      } else if (p.decl.streaming === 'unary') reply = line.item;
      else note(p, 'item', line.item, line.about);
      if (line.end) {
        end(p, line.end, reply);
        ended = true;
      }
    }
    if (!ended) failed(p, new Error('ipcctl web has ended the answer'));
  } catch (e) {
    if (e.name !== 'AbortError') throw e;
    end(p, {code: 'canceled', error: 'cancelled on this page'});
  } finally {
    p.abort = null;
    p.stream = 0;
    label(p);
  }
}

// log is where the items of a call are shown, the last 200 of them.
function note(p, kind, text, about) {
  let log = p.results.querySelector('.log');
  if (!log) p.results.append((log = el('ol', {class: 'log'})));
  const title = {sent: 'sent', note: '', item: about || 'received'}[kind];
  const low = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
  const flat = text.replace(/\s*\n\s*/g, ' '); // no string of JSON has a line break
  const entry = el('li', {class: kind}, el('span', {class: 'facts'}, title), el('pre', null, flat));
  log.append(entry);
  while (log.children.length > 200) log.firstChild.remove();
  if (low) log.scrollTop = log.scrollHeight;
  return entry;
}

// end shows how it has ended, and the reply if there is one.
function end(p, e, reply) {
  const ok = !e.code;
  p.results.append(
    el(
      'div',
      {class: 'result last'},
      el(
        'p',
        null,
        el('span', {class: ok ? 'ok' : 'failed'}, ok ? 'OK' : e.code),
        e.outcome ? el('span', null, e.outcome) : null,
        e.micros ? el('span', {class: 'facts'}, duration(e.micros * 1000)) : null,
        ...(e.metadata ?? []).map(([k, v]) => el('span', {class: 'facts mono'}, `${k}: ${v}`)),
      ),
      e.error
        ? el('pre', {class: 'bad'}, e.error)
        : reply === undefined
          ? null
          : el('pre', {class: 'reply'}, pretty(reply)),
    ),
  );
}

function failed(p, e) {
  if (e.status === 410 && chosen === p.name) {
    // the server was asked too long ago
    const item = p.item,
      name = p.name;
    chosen = '';
    choose(name, item);
  }
  end(p, {code: 'failed', error: e.message});
}
