// Orders. They are asked for twice: what would happen, and then that it shall.

async function order(what, name) {
  const box = $('#order'),
    log = box.querySelector('.log'),
    [no, yes] = box.querySelectorAll('button');
  put($('#order-title'), {failover: 'Fail over ', roll: 'Roll ', drain: 'Drain '}[what] + name);
  put($('#order-question'), 'Asking …');
  log.replaceChildren();
  put(no, 'Cancel');
  yes.hidden = yes.disabled = true;
  const say = (text, name) => {
    log.append(el('li', {class: name}, text));
    log.scrollTop = log.scrollHeight;
  };
  box.showModal();
  no.onclick = () => box.close();
  try {
    const {question, burden, mark} = await ask('order', {what, name});
    put($('#order-question'), sentence(question));
    if (burden) say(burden);
    yes.hidden = yes.disabled = false;
    yes.onclick = async () => {
      yes.disabled = true;
      put(no, 'Close');
      try {
        for await (const line of lines('carry', {what, name, mark})) {
          if (line.note) say(line.note);
          if (line.end) say(line.end.error ?? 'Done.', line.end.error ? 'fault' : 'done');
        }
      } catch (e) {
        say(e.message, 'fault');
      }
      yes.hidden = true;
    };
    yes.focus();
  } catch (e) {
    put($('#order-question'), e.message);
    no.focus();
  }
}
