// The range of a value axis. It ends on round numbers, and stays the same for as long as possible.

// A range around [low, high] that ends on round numbers, with at most five steps.
function roundRange(low, high, { min, max }) {
  if (min === 0 && low >= 0 && low < high / 2) low = 0;
  const spread = high - low || Math.abs(high) * 0.02 || 1;
  const rough = spread / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  let from = Math.floor(low / step + 1e-9) * step;
  let to = Math.ceil(high / step - 1e-9) * step;
  if (from === to) [from, to] = [from - step, to + step];
  if (min != null && low >= min) from = Math.max(from, min); // values beyond are rejected
  if (max != null && high <= max) to = Math.min(to, max);
  return { from, to, step };
}

// Keep the range while the points fill most of it: an axis that keeps moving cannot be read.
export function settledRange(old, low, high, limits) {
  const fits = old && low >= old.from && high <= old.to && high - low >= 0.3 * (old.to - old.from);
  return fits ? old : roundRange(low, high, limits);
}

export function digitsOf(step) {
  return Math.min(6, Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));
}
