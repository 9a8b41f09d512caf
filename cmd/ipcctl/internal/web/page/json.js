// JSON. A tree has maps, for names such as __proto__ are names like others, and numbers as they
// were written, for those of 64 bits are no numbers of JavaScript.

class Num {
  constructor(text) {
    this.text = text;
  }
}

const parse = text =>
  JSON.parse(text, (_, v, source) =>
    typeof v === 'number'
      ? new Num(source?.source ?? String(v))
      : v &&
          v.constructor !== Num &&
          typeof v === 'object' &&
          !Array.isArray(v) &&
          !(v instanceof Map)
        ? new Map(Object.entries(v))
        : v,
  );

function write(v, pad = '') {
  const more = pad + '  ';
  if (v instanceof Num) return v.text;
  if (v instanceof Map)
    return v.size
      ? `{\n${[...v].map(([k, one]) => `${more}${JSON.stringify(k)}: ${write(one, more)}`).join(',\n')}\n${pad}}`
      : '{}';
  if (!Array.isArray(v)) return JSON.stringify(v);
  if (v.every(one => !(one instanceof Map || Array.isArray(one))))
    return `[${v.map(one => write(one)).join(', ')}]`;
  return `[\n${v.map(one => more + write(one, more)).join(',\n')}\n${pad}]`;
}

function pretty(text) {
  try {
    return write(parse(text));
  } catch {
    return text;
  }
}
