// What is given back of a process's own memory.

import { readFileSync } from 'node:fs';
import t from 'tap';
import { giveBackMemory } from '../../kernel/memory.ts';

/** Kilobytes of files' pages that the process has now (proc(5)). */
const filePages = (): number => Number(/^RssFile:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]);

t.test('pages of the executable, which works as before', async (t) => {
  const before = filePages();
  giveBackMemory();
  t.ok(filePages() < before / 2, `${filePages()} kB of ${before}`);
  t.equal(new Intl.NumberFormat('de').format(12_345), '12.345');
  t.match(await import('node:http2'), { constants: { NGHTTP2_CANCEL: 8 } });
});
