// What probes between pods found, beside what was expected, as tables for people: a row for each asker, a column for each pod
// asked; "." reached, "X" not, and a "!" behind what should have been otherwise.

export interface Probed {
  /** What the table is of: "TCP 80, IPv4". */
  readonly kind: string;
  readonly from: string;
  readonly to: string;
  readonly reached: boolean;
  readonly expected: boolean;
}

export const isDifferent = ({ reached, expected }: Probed): boolean => reached !== expected;

/** One table for each kind. */
export function probeTables(probed: readonly Probed[]): string {
  return [...Map.groupBy(probed, ({ kind }) => kind)]
    .map(([kind, cells]) => {
      const columns = [...new Set(cells.map(({ to }) => to))].sort();
      const rows = [...Map.groupBy(cells, ({ from }) => from)].map(([from, row]) => {
        const marks = columns.map((to) => {
          const cell = row.find((each) => each.to === to);
          if (cell === undefined) return '- ';
          return `${cell.reached ? '.' : 'X'}${isDifferent(cell) ? '!' : ' '}`;
        });
        return `  ${from.padEnd(6)}${marks.map((mark) => mark.padEnd(6)).join('')}`.trimEnd();
      });
      const head = `  ${' '.repeat(6)}${columns.map((to) => to.padEnd(6)).join('')}`.trimEnd();
      return `${kind}\n${head}\n${rows.join('\n')}\n`;
    })
    .join('');
}
