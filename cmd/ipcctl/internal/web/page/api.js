// The server of this page. The token is the fragment of the address; it stays in this tab.

if (location.hash.length > 1) {
  sessionStorage.setItem('token', location.hash.slice(1));
  history.replaceState(null, '', location.pathname);
}
addEventListener('hashchange', () => location.reload()); // the address was pasted into this tab

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function post(path, body, signal) {
  const answer = await fetch('/api/' + path, {
    method: 'POST',
    signal,
    body: JSON.stringify(body),
    cache: 'no-store',
    credentials: 'omit',
    headers: {
      'Content-Type': 'application/json',
      Authorization: 'Bearer ' + sessionStorage.getItem('token'),
    },
  });
  if (!answer.ok) {
    let why = answer.statusText;
    try {
      why = (await answer.json()).error;
    } catch {
      /* no JSON */
    }
    throw new Refused(answer.status, why);
  }
  return answer;
}
const ask = async (path, body) => (await post(path, body)).json();

// lines yields the lines of an answer as they come.
async function* lines(path, body, signal) {
  const answer = await post(path, body, signal);
  let rest = '';
  for await (const part of chunks(answer.body.pipeThrough(new TextDecoderStream()))) {
    const all = (rest + part).split('\n');
    rest = all.pop();
    for (const line of all) yield JSON.parse(line);
  }
}
async function* chunks(stream) {
  // not every browser iterates over streams
  const reader = stream.getReader();
  try {
    for (;;) {
      const {done, value} = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
