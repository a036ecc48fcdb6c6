// Log lines for a terminal: time, level when it isn't the usual one, message, and what belongs to it.

const LEVELS: Readonly<Record<number, string>> = { 20: 'debug ', 40: 'warning ', 50: 'error ', 60: 'fatal ' };

/** One of pino's JSON lines in words. */
export function humanLine(json: string): string {
  const { time, level, msg, ...facts } = JSON.parse(json) as { time: number; level: number; msg?: string };
  const details = Object.keys(facts).length === 0 ? '' : `  ${JSON.stringify(facts)}`;
  return `${new Date(time).toISOString().slice(11, 23)} ${LEVELS[level] ?? ''}${msg ?? ''}${details}\n`;
}
