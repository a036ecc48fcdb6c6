import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';

/**
 * A directory of a test, removed with it. It stands in the system's temporary directory, wherever the tree is: the path
 * of a socket has at most 107 bytes (unix(7)), and that of a clone may be longer.
 */
export function temporaryDirectory(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'flannel-test-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}
