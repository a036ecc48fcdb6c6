// What the demonstration prints: steps with their time, blocks of what a command showed, a matrix. Colours only on a
// terminal.

const colour = process.stdout.isTTY === true && process.env.NO_COLOR === undefined;
const paint = (code: number) => (text: string) => (colour ? `\u001b[${code}m${text}\u001b[0m` : text);
export const good = paint(32);
export const bad = paint(31);
const faint = paint(2);
const strong = paint(1);

export const print = (text: string): void => void process.stdout.write(`${text}\n`);

export const heading = (text: string): void => print(`\n${strong(text)}`);

/** Runs a step, printing its name first and its time when it is done. */
export async function step<T>(name: string, run: () => Promise<T>): Promise<T> {
  const started = performance.now();
  process.stdout.write(`  ${name} … `);
  try {
    const result = await run();
    print(good(`${((performance.now() - started) / 1000).toFixed(2)} s`));
    return result;
  } catch (error) {
    print(bad('failed'));
    throw error;
  }
}

/** What a command showed, indented. */
export function block(title: string, text: string): void {
  print(`  ${faint(title)}`);
  for (const line of text.trimEnd().split('\n')) print(`    ${line}`);
}

/** A row a pod, a column a pod; a cell is "ok" or what went wrong. */
export function matrix(title: string, names: readonly string[], cells: readonly (readonly string[])[]): void {
  const width = Math.max(...names.map((name) => name.length), 4) + 2;
  print(`  ${faint(title)}`);
  print(`    ${' '.repeat(width)}${names.map((name) => name.padEnd(width)).join('')}`);
  cells.forEach((row, index) => {
    const shown = row.map((cell) => (cell === 'ok' ? good('ok'.padEnd(width)) : bad('FAIL'.padEnd(width))));
    print(`    ${(names[index] ?? '').padEnd(width)}${shown.join('')}`);
  });
}
