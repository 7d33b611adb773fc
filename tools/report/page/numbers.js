// How figures are written: English grouping, no digit that says nothing.

const grouped = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 3 });

export function count(value) {
  if (value === null || value === undefined) return null;
  return Math.abs(value) >= 100 || Number.isInteger(value) ? grouped.format(value) : fine.format(value);
}

export function percent(share) {
  if (share === null || share === undefined) return null;
  const value = share * 100;
  const sign = value < 0 ? "−" : "+";
  return `${sign}${Math.abs(value).toFixed(Math.abs(value) < 10 ? 1 : 0)} %`;
}

export function portion(share) {
  return share === null ? null : `${(share * 100).toFixed(1)} %`;
}

export function times(ratio) {
  if (ratio === null || ratio === undefined) return null;
  return `${ratio < 10 ? ratio.toFixed(1) : grouped.format(ratio)} ×`;
}

export function range({ low, high }) {
  return low === high ? count(low) : `${count(low)} to ${count(high)}`;
}

// The quotient where both are known and it means something.
export function quotient(dividend, divisor) {
  return Number.isFinite(dividend) && Number.isFinite(divisor) && divisor > 0 ? dividend / divisor : null;
}

export function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}
