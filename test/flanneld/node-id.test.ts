// The node's identity: made once, kept, and made again only where the file holds none.

import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { nodeId } from '../../flanneld/node-id.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const UUID = /^[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/;

t.test('node id', async (t) => {
  const root = temporaryDirectory(t);
  const path = join(root, 'lib/flannel/node-id');

  const made = nodeId(path);
  t.match(made, UUID);
  t.equal(readFileSync(path, 'utf8'), `${made}\n`);
  t.equal(statSync(path).mode & 0o777, 0o600);
  t.equal(nodeId(path), made, 'kept');
  t.not(nodeId(join(root, 'other')), made, 'another node, another id');

  for (const content of ['', 'node-1', '\0'.repeat(37)]) {
    writeFileSync(path, content);
    const again = nodeId(path);
    t.match(again, UUID, `made again in place of ${JSON.stringify(content)}`);
    t.equal(nodeId(path), again);
  }
  t.throws(() => nodeId(root), { code: 'io' }, 'a directory in its place');
});
