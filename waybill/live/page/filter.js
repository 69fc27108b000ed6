// `task:report queue:usa state:unroutable since:5m` and free text -> whether a message is wanted.

const FIELDS = {
  task: (m) => [m.task ?? ""],
  id: (m) => [m.id],
  exchange: (m) => [m.exchange || "(default)"],
  key: (m) => m.keys,
  queue: (m) => m.queues,
  worker: (m) => m.workers ?? [],
  state: (m) => [m.state],
  sender: (m) => [m.sender],
};
const UNITS = { s: 1, m: 60, h: 3600 };

export function wanted(text, now = Date.now) {
  const tests = [];
  for (const [, name, quoted, plain] of text.matchAll(/(?:(\w+):)?(?:"([^"]*)"|(\S+))/g)) {
    const value = (quoted ?? plain ?? "").toLowerCase();
    const since = name === "since" && /^(\d+)([smh])$/.exec(value);
    if (since) {
      tests.push((m) => m.time >= now() / 1000 - Number(since[1]) * UNITS[since[2]]);
    } else if (name in FIELDS) {
      tests.push((m) => FIELDS[name](m).some((one) => one.toLowerCase().includes(value)));
    } else {
      const any = (name ? `${name}:` : "") + value;
      tests.push((m) => Object.values(FIELDS).some((of) => of(m).some((one) => one.toLowerCase().includes(any))));
    }
  }
  return (message) => tests.every((test) => test(message));
}
