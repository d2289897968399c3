// Shared by all panels of a page: the server's clock, and the window of time that they show.

const SHORTEST_MS = 60_000;
const STEPS_MS = [15_000, 30_000, 60_000, 120_000, 300_000];

let offset = null; // of the server's clock from the browser's
const oldest = new Map(); // panel -> its oldest point

export function setClock(now) {
  const fresh = now - Date.now();
  if (offset === null || Math.abs(fresh - offset) > 1000) offset = fresh;
}

export function noteOldest(panel, time) {
  if (time === undefined) oldest.delete(panel);
  else oldest.set(panel, time);
}

// The last 15 minutes, or less while there is less to show.
export function shown(longest) {
  const to = Date.now() + (offset ?? 0);
  const since = Math.min(...oldest.values(), to - SHORTEST_MS);
  return { from: Math.max(to - longest, since), to };
}

// The positions of the labels: at whole minutes, or parts of one.
export function labels({ from, to }, most) {
  const step = STEPS_MS.find((one) => (to - from) / one <= most) ?? STEPS_MS[STEPS_MS.length - 1];
  const seconds = step < 60_000 ? { second: "2-digit" } : {};
  const format = (time) =>
    new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false, ...seconds });
  const margin = (to - from) * 0.04;
  const times = [];
  for (let time = Math.ceil((from + margin) / step) * step; time <= to - margin; time += step) times.push(time);
  return { times, format };
}
