// Figures of a series, and a table of them for people.

export interface Figures {
  readonly count: number;
  readonly median: number;
  readonly p90: number;
  readonly p99: number;
}

/** The value below which `share` of the sorted values lie. */
const quantile = (sorted: readonly number[], share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;

export function figures(values: readonly number[]): Figures {
  const sorted = [...values].sort((a, b) => a - b);
  return {
    count: sorted.length,
    median: quantile(sorted, 0.5),
    p90: quantile(sorted, 0.9),
    p99: quantile(sorted, 0.99),
  };
}

/** Rows of cells under a head, each column as wide as its widest cell; numbers to the right. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((name, column) => Math.max(name.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('  ');
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)]
    .map((text) => `  ${text.trimEnd()}\n`)
    .join('');
}

/** Milliseconds with two decimals. */
export const ms = (value: number): string => value.toFixed(2);

/** With so many decimals; "-" where nothing was measured. */
export const shown = (value: number, digits: number): string => (Number.isNaN(value) ? '-' : value.toFixed(digits));
