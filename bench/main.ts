// npm run bench -- NAME: measurements, each ours beside a peer in one run.

import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { benchCni, printCni } from './cni.ts';

const HELP = `usage: npm run bench -- cni [OPTIONS]

  cni            ADD and DEL of the CNI plugin, beside the reference plugins in /usr/lib/cni and a floor program in C

  --pods N       pods of a sequential series (200)
  --peer DIR     another directory with reference plugins; may be repeated
  --json FILE    write the figures there too
  --help         this text

Needs root and an otherwise idle machine. Compare figures of one run only.
`;

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      pods: { type: 'string', default: '200' },
      peer: { type: 'string', multiple: true, default: [] },
      json: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help || positionals.length === 0) {
    process.stdout.write(HELP);
    return;
  }
  if (positionals[0] !== 'cni') throw new Error(`${positionals[0]}: no such measurement; see --help`);
  const pods = Number(values.pods);
  if (!Number.isInteger(pods) || pods < 10 || pods > 2000)
    throw new Error(`--pods ${values.pods}: expected a whole number from 10 to 2000`);
  const root = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '');
  const results = await benchCni({
    root,
    pods,
    peers: values.peer,
    progress: (text) => process.stderr.write(`  ${text}\n`),
  });
  process.stdout.write(printCni(results));
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(results, undefined, 2)}\n`);
}

try {
  await main();
} catch (error) {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
