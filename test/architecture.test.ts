// The sources keep the rules of the architecture, and each rule really finds what it is there for.

import { globSync, readFileSync } from 'node:fs';
import t from 'tap';
import { type ErrorKind, ERRORS } from '../model/errors.ts';
import { RULES, type Sources, violations } from './architecture.ts';

const files = globSync('{model,kernel,ipam,cni-plugin,flanneld,examples,bench,test}/**/*.ts').sort();
const sources: Sources = Object.fromEntries(files.map((path) => [path, readFileSync(path, 'utf8')]));

for (const rule of Object.keys(RULES) as (keyof typeof RULES)[]) {
  t.test(rule, async (t) => t.strictSame(violations(rule, sources), []));
}

/** A rule, sources that keep it and sources that break it, with the words of the complaint. */
const CASES: readonly [keyof typeof RULES, Sources, Sources, RegExp][] = [
  [
    'pure files import only pure files',
    { 'model/a.ts': `import { b } from './b.ts'; import { createHash } from 'node:crypto';` },
    { 'model/a.ts': `import { readFileSync } from 'node:fs';` },
    /model\/a\.ts imports node:fs/,
  ],
  [
    'pure files import only pure files',
    { 'flanneld/rules/a.ts': `import type { Kernel } from '../../kernel/kernel.ts';` },
    { 'flanneld/rules/a.ts': `import { open } from '../../kernel/open.ts';` },
    /kernel\/open\.ts/,
  ],
  [
    'pure files import only pure files',
    { 'model/a.ts': `import { createHash } from 'node:crypto';` },
    { 'model/a.ts': `import { randomUUID } from 'node:crypto';` },
    /node:crypto/,
  ],
  [
    'pure files use no clock, no randomness and no process',
    { 'model/a.ts': `export const at = (now: Date) => new Date(now); export const o = { process: 1 };` },
    { 'model/a.ts': `export const at = () => new Date();` },
    /new Date/,
  ],
  [
    'pure files use no clock, no randomness and no process',
    { 'model/a.ts': `// process.env and Date.now() in a comment\nexport const text = 'process.env';` },
    { 'model/a.ts': `export const debug = process.env.DEBUG;` },
    /uses process/,
  ],
  [
    'import directions',
    { 'flanneld/a.ts': `import { add } from '../cni-plugin/verbs.ts';` },
    { 'flanneld/a.ts': `import { plan } from '../cni-plugin/plan.ts';` },
    /flanneld may import/,
  ],
  [
    'import directions',
    { 'kernel/a.ts': `import { x } from '../model/x.ts';` },
    { 'kernel/a.ts': `export const late = () => import('../ipam/store.ts');` },
    /kernel\/a\.ts imports ipam\/store\.ts/,
  ],
  [
    'import directions',
    { 'test/a.ts': `import { b } from './support/b.ts';` },
    { 'examples/demo/a.ts': `import { b } from '../../test/support/b.ts';` },
    /only measurements import the tests/,
  ],
  [
    'packages',
    { 'kernel/wire.ts': `import { Attr } from 'netlink/dist/structs.js';` },
    { 'flanneld/a.ts': `import { Attr } from 'netlink/dist/structs.js';` },
    /allowed in kernel/,
  ],
  [
    'packages',
    { 'kernel/ffi.ts': `import koffi from 'koffi';` },
    { 'kernel/ffi.ts': `import x from 'left-pad';` },
    /allowed in no file/,
  ],
  ['packages', { 'test/a.test.ts': `import t from 'tap';` }, { 'examples/a.ts': `import t from 'tap';` }, /only tests/],
  [
    'modules with effects',
    { 'kernel/files.ts': `import { spawn } from 'node:child_process';` },
    { 'cni-plugin/verbs.ts': `import { spawn } from 'node:child_process';` },
    /allowed in kernel/,
  ],
  [
    'only main.ts touches arguments, environment and exit',
    { 'flanneld/main.ts': `process.exit(1);`, 'flanneld/b.ts': `process.abort();` },
    { 'flanneld/b.ts': `export const stop = () => process.exit(1);` },
    /flanneld\/b\.ts uses process\.exit/,
  ],
  [
    'no import cycles',
    { 'model/a.ts': `import './b.ts';`, 'model/b.ts': `import type { A } from './a.ts';` },
    { 'model/a.ts': `import './b.ts';`, 'model/b.ts': `export * from './c.ts';`, 'model/c.ts': `import './a.ts';` },
    /model\/a\.ts -> model\/b\.ts -> model\/c\.ts -> model\/a\.ts/,
  ],
  [
    'what is exported is imported',
    {
      'model/a.ts': `export const a = 1; export type T = 2;`,
      'test/a.test.ts': `import { a as b } from '../model/a.ts';`,
    },
    { 'model/a.ts': `export function a() {} const b = 1;`, 'model/b.ts': `import { b } from './a.ts';` },
    /model\/a\.ts exports a: nobody/,
  ],
  [
    'what is exported is imported',
    { 'model/a.ts': `export class A {}`, 'model/b.ts': `const { A } = await import('./a.ts');` },
    { 'model/a.ts': `export class A {}` },
    /exports A/,
  ],
  [
    'file size',
    { 'model/a.ts': '\n'.repeat(300), 'test/a.ts': '\n;'.repeat(500) },
    { 'model/a.ts': ';\n'.repeat(401) },
    /401 lines/,
  ],
];

for (const [rule, good, bad, words] of CASES) {
  t.test(`fails: ${rule}: ${Object.values(bad)[0]?.slice(0, 60).trim()}`, async (t) => {
    t.strictSame(violations(rule, good), []);
    const found = violations(rule, bad);
    t.equal(found.length, 1);
    t.match(found[0], words);
  });
}

t.test('docs/errors.md says of every error code what model/errors.ts says', async (t) => {
  const rows = readFileSync('docs/errors.md', 'utf8').match(/^\| `.*$/gm) ?? [];
  const kinds: [string, ErrorKind][] = Object.entries(ERRORS);
  const wanted = kinds.map(
    ([code, { cni, hint, transient }]) => `| \`${code}\` | ${cni} | ${transient ? 'yes' : 'no'} | ${hint} |`,
  );
  t.strictSame(rows.toSorted(), wanted.toSorted());
});
