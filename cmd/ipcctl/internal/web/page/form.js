// The form of a type, and its text. Either follows the other.

let serial = 0; // for ids

function form(p) {
  const typ = p.decl.request;
  const f = {tree: initial(typ), faults: new Map()}; // faults has places for them, by path
  const fields = el('div', {class: 'fields'}),
    general = el('p', {class: 'fault', role: 'alert'});
  const id = 'raw' + ++serial;
  const raw = el('textarea', {id, spellcheck: 'false', rows: 7}),
    follows = el('p', {class: 'help'});
  let timer = 0;
  const check = () => {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      const text = f.text();
      try {
        const {fault} = await ask('check', {
          schema: p.schema,
          kind: p.kind,
          item: p.decl.name,
          text,
        });
        if (text !== f.text()) return;
        f.clear();
        if (fault) f.fault(fault);
      } catch {
        /* the call will tell */
      }
    }, 300);
  };
  const changed = () => {
    raw.value = write(f.tree);
    put(follows, '');
    check();
  };
  const draw = () => {
    f.faults.clear();
    const set = v => {
      f.tree = v ?? initial(typ);
      changed();
    };
    fields.replaceChildren(
      widget({f, typ, path: '', value: () => f.tree, set, root: true, id: 'f' + ++serial}),
    );
    if (!fields.querySelector('input, select, textarea, button'))
      fields.replaceChildren(el('p', {class: 'facts'}, 'It has no fields.'));
  };
  raw.addEventListener('input', () => {
    try {
      f.tree = parse(raw.value.trim() || '{}');
      put(follows, '');
      draw();
    } catch {
      put(follows, 'The form follows when this is JSON.');
    }
    check();
  });
  raw.addEventListener('keydown', e => {
    if (e.key === 'Enter' && (e.ctrlKey || e.metaKey)) p.send.click();
  });
  f.text = () => raw.value.trim() || '{}';
  f.clear = () => {
    put(general, '');
    for (const place of f.faults.values()) {
      put(place, '');
      mark(place, false);
    }
  };
  // fault shows what is wrong at the field that its path names, or at the nearest one around it.
  f.fault = ({line, column, path, message}) => {
    let at = path ?? '';
    while (at && !f.faults.has(at)) at = at.replace(/(\.|^)[^.[\]]*$|\[\d+\]$/, '');
    const place = at && f.faults.get(at);
    put(
      place || general,
      place ? message : `line ${line}, column ${column}: ${path ? path + ': ' : ''}${message}`,
    );
    if (place) mark(place, true);
  };
  const mark = (place, wrong) => {
    const control = place.parentElement?.querySelector('input, select, textarea');
    if (wrong) control?.setAttribute('aria-invalid', 'true');
    else control?.removeAttribute('aria-invalid');
  };
  f.changed = changed;
  raw.value = write(f.tree);
  draw();
  f.box = el(
    'div',
    {class: 'sides'},
    el('div', {class: 'fields'}, fields, general),
    el(
      'div',
      {class: 'raw'},
      el('label', {for: id}, 'JSON', el('span', {class: 'kind'}, 'Ctrl-Enter sends')),
      raw,
      follows,
    ),
  );
  return f;
}

const typeOf = typ => served.forms.types[typ.type] ?? {};

// initial is the value with which a field begins when it is added.
function initial(typ) {
  switch (typ.kind) {
    case 'table':
    case 'nested':
      return new Map();
    case 'struct':
      return new Map(typeOf(typ).fields.map(f => [f.name, initial(f.type)]));
    case 'payload':
      return new Map([
        ['header', initial({kind: 'struct', type: typ.type})],
        ['payload', ''],
      ]);
    case 'vector':
    case 'bytes':
      return [];
    case 'array':
      return Array.from({length: typ.length}, () => initial(typ.element));
    case 'bool':
      return false;
    case 'int':
    case 'float':
    case 'hash':
      return new Num('0');
    case 'enum':
      return typeOf(typ).values[0]?.name ?? new Num('0');
    case 'flags':
      return new Num('0');
    case 'flex':
      return new Map();
  }
  return '';
}

const shown = v =>
  v instanceof Num
    ? v.text
    : typeof v === 'string'
      ? v
      : v === undefined || v === null
        ? ''
        : write(v);
const numeral = /^-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?$/;

// widget makes the controls of a place: its type, and how its value is read and set. A value that
// is not there is undefined.
function widget(w) {
  switch (w.typ.kind) {
    case 'table':
    case 'struct':
    case 'nested':
      return record(w);
    case 'payload':
      return record({
        ...w,
        fields: [
          {
            name: 'header',
            type: {kind: 'struct', type: w.typ.type, label: typeOf(w.typ).name},
            required: true,
          },
          {name: 'payload', type: {kind: 'string', label: 'base64'}},
        ],
      });
    case 'vector':
    case 'array':
      return rows(w);
    case 'bytes':
      return bytes(w);
    case 'bool':
      return tick(w);
    case 'enum':
      return pick(w);
    case 'flags':
      return flags(w);
    case 'flex':
      return free(w);
  }
  const numeric = w.typ.kind === 'int' || w.typ.kind === 'float';
  const long = w.typ.kind === 'string' && shown(w.value()).includes('\n');
  const control = el(long ? 'textarea' : 'input', {
    id: w.id,
    placeholder: w.initial,
    class: numeric || long ? 'value' : null,
    inputmode: numeric ? 'text' : null,
    autocomplete: 'off',
    spellcheck: 'false',
    oninput: () => {
      const text = control.value;
      w.set(
        text === '' && !(w.required && w.typ.kind === 'string')
          ? undefined
          : w.typ.kind !== 'string' && numeral.test(text)
            ? new Num(text)
            : text,
      );
    },
  });
  control.value = shown(w.value());
  return control;
}

// tick is a box for a bool, or, if the bool may be absent, a choice of three.
function tick(w) {
  if (w.optional) {
    const s = el(
      'select',
      {id: w.id, onchange: () => w.set(s.value === '' ? undefined : s.value === 'true')},
      el('option', {value: ''}, 'absent'),
      el('option', {value: 'true'}, 'true'),
      el('option', {value: 'false'}, 'false'),
    );
    s.value = w.value() === undefined ? '' : String(w.value());
    return s;
  }
  const box = el('input', {type: 'checkbox', id: w.id, onchange: () => w.set(box.checked)});
  box.checked = w.value() === undefined ? w.initial === 'true' : w.value() === true;
  return el('div', {class: 'check'}, box);
}

// pick is a choice of the values of an enum. Its comment is that of the chosen value.
function pick(w) {
  const values = typeOf(w.typ).values,
    help = el('div', {class: 'help'});
  const absent = w.inRow
    ? null
    : el('option', {value: ''}, w.optional ? 'absent' : `${w.initial} (default)`);
  const s = el(
    'select',
    {
      id: w.id,
      onchange: () => {
        w.set(s.value || undefined);
        explain();
      },
    },
    absent,
    ...values.map(v => el('option', {value: v.name}, v.name)),
  );
  const value = shown(w.value()),
    name = values.find(v => v.value === value)?.name ?? value;
  if (name && !values.some(v => v.name === name)) s.append(el('option', {value: name}, name));
  s.value = name;
  const explain = () => put(help, values.find(v => v.name === (s.value || w.initial))?.doc ?? '');
  explain();
  return el('div', {class: 'field'}, s, help);
}

// flags are boxes for the values of an enum that are or-ed.
function flags(w) {
  const values = typeOf(w.typ).values,
    on = new Set(shown(w.value() ?? w.initial).split(/\s+/));
  if (/^\d+$/.test([...on][0]))
    for (const v of values) if (BigInt([...on][0]) & BigInt(v.value)) on.add(v.name);
  const boxes = values.map((v, i) => {
    const box = el('input', {
      type: 'checkbox',
      value: v.name,
      id: i ? null : w.id,
      onchange: () => {
        const names = boxes.filter(b => b.checked).map(b => b.value);
        w.set(
          names.length
            ? names.join(' ')
            : (w.initial && w.initial !== '0') || w.inRow
              ? new Num('0')
              : undefined,
        );
      },
    });
    box.checked = on.has(v.name);
    return box;
  });
  return el(
    'div',
    {class: 'boxes', role: 'group'},
    ...boxes.map((b, i) => el('label', {title: values[i].doc}, b, values[i].name)),
  );
}

// bytes are written as text, as hexadecimal digits, or as numbers.
function bytes(w) {
  const forms = {
    text: {show: b => new TextDecoder().decode(b), read: t => new TextEncoder().encode(t)},
    hex: {
      show: b => [...b].map(n => n.toString(16).padStart(2, '0')).join(' '),
      read: t => (t.replace(/[^0-9a-f]/gi, '').match(/../g) ?? []).map(x => parseInt(x, 16)),
    },
    numbers: {
      show: b => [...b].map(n => (w.typ.signed && n > 127 ? n - 256 : n)).join(', '),
      read: t => (t.match(/-?\d+/g) ?? []).map(Number),
    },
  };
  const control = el('textarea', {
    id: w.id,
    rows: 2,
    class: 'value',
    spellcheck: 'false',
    oninput: () => {
      const all = [...forms[mode.value].read(control.value)].map(n =>
        w.typ.signed && n > 127 ? n - 256 : n,
      );
      w.set(all.length ? all.map(n => new Num(String(n))) : undefined);
    },
  });
  const fill = () => {
    const v = w.value();
    control.value =
      v === undefined
        ? ''
        : Array.isArray(v)
          ? forms[mode.value].show(Uint8Array.from(v, n => Number(shown(n))))
          : shown(v);
  };
  const mode = el(
    'select',
    {'aria-label': 'How the bytes are written', onchange: fill},
    ...Object.keys(forms).map(m => el('option', null, m)),
  );
  mode.value = w.value()?.length ? 'hex' : 'text';
  fill();
  return el('div', {class: 'pair'}, mode, control);
}

// free is any JSON, for a FlexBuffer.
function free(w) {
  const control = el('textarea', {
    id: w.id,
    rows: 2,
    class: 'value',
    spellcheck: 'false',
    placeholder: 'any JSON',
    oninput: () => {
      try {
        w.set(control.value.trim() ? parse(control.value) : undefined);
        control.removeAttribute('aria-invalid');
      } catch {
        control.setAttribute('aria-invalid', 'true');
      }
    },
  });
  control.value = w.value() === undefined ? '' : write(w.value());
  return control;
}

const compound = new Set(['table', 'struct', 'nested', 'vector', 'array', 'payload', 'flags']);

// field is a place with its name, its comment and room for what is wrong with it.
function field(f, name, typ, w, decl) {
  const fault = el('div', {class: 'fault', role: 'alert'});
  f.faults.set(w.path, fault);
  const kind = [
    typ.label,
    decl?.required && 'required',
    decl?.optional && 'optional',
    decl?.key && 'key',
  ]
    .filter(Boolean)
    .join(', ');
  const title = [name, el('span', {class: 'kind'}, kind)];
  return el(
    'div',
    {class: 'field', 'data-path': w.path},
    compound.has(typ.kind)
      ? el('span', {class: 'name', id: w.id + 'name'}, ...title)
      : el('label', {class: 'name', for: w.id}, ...title),
    decl?.doc ? el('div', {class: 'help'}, decl.doc) : null,
    widget(w),
    fault,
  );
}

// assign sets a member of a map, in the order of the fields.
function assign(map, fields, name, value) {
  if (value === undefined) map.delete(name);
  else map.set(name, value);
  const order = new Map(fields.flatMap(f => [f.name + '_type', f.name]).map((n, i) => [n, i]));
  const sorted = [...map].sort(([a], [b]) => (order.get(a) ?? 1e9) - (order.get(b) ?? 1e9));
  map.clear();
  for (const [k, v] of sorted) map.set(k, v);
}

// record is a table or a struct: its fields, once it is there.
function record(w) {
  const box = el('div', {class: w.root ? 'fields' : 'fold'}),
    decls = w.fields ?? typeOf(w.typ).fields;
  const draw = focus => {
    const value = w.value(),
      children = [];
    if (!(value instanceof Map)) {
      if (value !== undefined) children.push(el('div', {class: 'help'}, 'It is written as JSON.'));
      children.push(
        el(
          'div',
          null,
          small('Add', () => {
            w.set(initial(w.typ));
            draw(true);
          }),
        ),
      );
    } else {
      const {f, path} = w;
      for (const decl of decls) {
        const at = path ? `${path}.${decl.name}` : decl.name;
        const place = {
          f,
          typ: decl.type,
          path: at,
          id: 'f' + ++serial,
          initial: decl.default,
          required: decl.required || w.typ.kind === 'struct',
          optional: decl.optional,
          value: () => value.get(decl.name),
          set: v => {
            assign(value, decls, decl.name, v);
            f.changed();
          },
        };
        if (decl.type.kind === 'union') children.push(union(place, decl, value, decls));
        else if (decl.type.kind === 'unions') children.push(unions(place, decl, value, decls));
        else children.push(field(f, decl.name, decl.type, place, decl));
      }
      if (!w.root && !w.inRow && !w.required)
        children.push(
          el(
            'div',
            null,
            small('Remove', () => {
              w.set(undefined);
              draw(true);
            }),
          ),
        );
    }
    box.replaceChildren(...children);
    box.hidden = children.length === 0;
    if (focus) box.querySelector('input, select, textarea, button')?.focus();
  };
  draw();
  return box;
}

// memberOf is the choice of a union's member, and its value below.
function memberOf(f, typ, path, tag, value, setTag, setValue) {
  const members = typeOf(typ).values,
    box = el('div', {class: 'fields'});
  const choice = el(
    'select',
    {
      id: 'f' + ++serial,
      'aria-label': 'Member',
      onchange: () => {
        const m = members.find(m => m.name === choice.value);
        setTag(m ? m.name : undefined);
        setValue(m ? initial(m.type) : undefined);
        draw();
      },
    },
    el('option', {value: ''}, 'none'),
    ...members.map(m => el('option', {value: m.name, title: m.doc}, m.name)),
  );
  const draw = () => {
    const m = members.find(m => m.name === shown(tag()) || m.value === shown(tag()));
    choice.value = m?.name ?? '';
    box.replaceChildren(
      choice,
      ...(!m
        ? []
        : [
            m.doc ? el('div', {class: 'help'}, m.doc) : null,
            widget({
              f,
              typ: m.type,
              path,
              value,
              set: setValue,
              inRow: true,
              required: true,
              id: 'f' + ++serial,
            }),
          ].filter(Boolean)),
    );
  };
  draw();
  return {box, id: choice.id};
}

function union(w, decl, map, decls) {
  const tag = decl.name + '_type';
  const m = memberOf(
    w.f,
    w.typ,
    w.path,
    () => map.get(tag),
    w.value,
    v => {
      assign(map, decls, tag, v);
      w.f.changed();
    },
    w.set,
  );
  const fault = el('div', {class: 'fault', role: 'alert'});
  w.f.faults.set(w.path, fault);
  w.f.faults.set(w.path + '_type', fault);
  return el(
    'div',
    {class: 'field', 'data-path': w.path},
    el(
      'label',
      {class: 'name', for: m.id},
      decl.name,
      el(
        'span',
        {class: 'kind'},
        [w.typ.label, decl.required && 'required'].filter(Boolean).join(', '),
      ),
    ),
    decl.doc ? el('div', {class: 'help'}, decl.doc) : null,
    m.box,
    fault,
  );
}

// unions is a vector of a union: one list of types and one of values.
function unions(w, decl, map, decls) {
  const tag = decl.name + '_type',
    box = el('div', {class: 'fold'});
  const list = name => map.get(name) ?? [];
  const store = (tags, values) => {
    assign(map, decls, tag, tags.length ? tags : undefined);
    assign(map, decls, decl.name, values.length ? values : undefined);
    w.f.changed();
  };
  const draw = focus => {
    const tags = list(tag),
      values = list(decl.name);
    const rows = tags.map((_, i) =>
      el(
        'div',
        {class: 'line'},
        memberOf(
          w.f,
          w.typ,
          `${w.path}[${i}]`,
          () => tags[i],
          () => values[i],
          v => {
            tags[i] = v ?? typeOf(w.typ).values[0].name;
            store(tags, values);
          },
          v => {
            values[i] = v ?? initial(typeOf(w.typ).values[0].type);
            store(tags, values);
          },
        ).box,
        el(
          'button',
          {
            type: 'button',
            'aria-label': `Remove ${i + 1}`,
            onclick: () => {
              tags.splice(i, 1);
              values.splice(i, 1);
              store(tags, values);
              draw();
            },
          },
          '✕',
        ),
      ),
    );
    box.replaceChildren(
      ...rows,
      el(
        'div',
        null,
        small('Add', () => {
          const first = typeOf(w.typ).values[0];
          store([...tags, first.name], [...values, initial(first.type)]);
          draw(true);
        }),
      ),
    );
    if (focus) rows.at(-1)?.querySelector('select')?.focus();
  };
  draw();
  const fault = el('div', {class: 'fault', role: 'alert'});
  w.f.faults.set(w.path, fault);
  return el(
    'div',
    {class: 'field', 'data-path': w.path},
    el('span', {class: 'name'}, decl.name, el('span', {class: 'kind'}, `[${w.typ.label}]`)),
    decl.doc ? el('div', {class: 'help'}, decl.doc) : null,
    box,
    fault,
  );
}

// rows are the elements of a vector or an array.
function rows(w) {
  const box = el('div', {class: 'fold'}),
    fixed = w.typ.kind === 'array',
    most = 200;
  const draw = focus => {
    const value = w.value() ?? [];
    if (!Array.isArray(value) || value.length > most) {
      box.replaceChildren(
        el(
          'div',
          {class: 'help'},
          Array.isArray(value)
            ? `${value.length} elements: edit them as JSON.`
            : 'It is written as JSON.',
        ),
      );
      return;
    }
    const all = value.map((_, i) => {
      const at = `${w.path}[${i}]`,
        fault = el('div', {class: 'fault', role: 'alert'}),
        id = 'f' + ++serial;
      w.f.faults.set(at, fault);
      const one = widget({
        f: w.f,
        typ: w.typ.element,
        path: at,
        id,
        inRow: true,
        required: true,
        value: () => value[i],
        set: v => {
          value[i] = v ?? initial(w.typ.element);
          w.set(value);
        },
      });
      (one.id === id ? one : one.querySelector('#' + id))?.setAttribute(
        'aria-label',
        `Element ${i + 1}`,
      );
      return el(
        'div',
        {class: 'line', 'data-path': at},
        el('div', null, one, fault),
        fixed
          ? null
          : el(
              'button',
              {
                type: 'button',
                'aria-label': `Remove element ${i + 1}`,
                onclick: () => {
                  value.splice(i, 1);
                  w.set(value.length ? value : undefined);
                  draw();
                },
              },
              '✕',
            ),
      );
    });
    box.replaceChildren(
      ...all,
      fixed
        ? ''
        : el(
            'div',
            null,
            small('Add', () => {
              w.set([...value, initial(w.typ.element)]);
              draw(true);
            }),
          ),
    );
    if (focus)
      all
        .at(-1)
        ?.nextElementSibling?.previousElementSibling?.querySelector('input, select, textarea')
        ?.focus();
  };
  draw();
  return box;
}
